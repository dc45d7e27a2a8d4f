"""Bugs of masking: the wrong tokens are hidden, by the wrong things, or the wrong answer is asked for."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug
from mini_bert.verification.injection import Edit

FAMILY = "Masking"

_PARTS = "tests/data/test_data_masking_parts.py"

BUGS: tuple[Bug, ...] = (
    Bug(
        name="specials-masked",
        title="[CLS], [SEP] and [UNK] are masked and asked for like words",
        edits=(Edit("data/masking.py", "ordinary = ~pieces.special[ids]", "ordinary = ids != pieces.pad_id"),),
        seen="huggingface/transformers #1307 and #1395 (its example scripts of 2019), AnswerDotAI/ModernBERT #212.",
        lesson="[CLS] stands in front of every row and [SEP] at its end: whoever knows the position knows the answer. "
        "So a few per cent of all questions are free, the accuracy is higher and the loss lower than those of other "
        "programs, and the numbers cannot be compared. The model loses twice: questions are spent on nothing, and one "
        "time in seven its only marks of where a row begins and ends are hidden. Ask which ids were ever chosen: no "
        "special one may be among them.",
        place="specials",
        caught_by=f"{_PARTS}::test_specials_are_never_chosen",
    ),
    Bug(
        name="rate-of-all-columns",
        title="15 % are taken of the row's length, padding included",
        edits=(Edit("data/masking.py", "np.floor(rate * counts + rounding)", "np.floor(rate * columns + rounding)"),),
        seen="Padding counted or masked as text: mead-ml/mead-baseline #760, and a question in its review of #337.",
        lesson="A row of five words in a batch 64 wide has ten masks to place, and all five words are hidden: nothing "
        "is left to guess from. Short rows become exercises in word frequency, long ones are as they should be, and "
        "the rate that is reported, masks over places, is 15 % exactly. The loss is that of another exam, and even "
        "lower where short rows are much alike. Packed rows without padding hide the bug. Count masks over ordinary "
        "tokens, row by row, in rows of all lengths.",
        place="rate_is_of_ordinary_tokens",
        caught_by=f"{_PARTS}::test_rate_is_of_ordinary_tokens_without_padding",
    ),
    Bug(
        name="random-replacement-draws-specials",
        title="Random replacements are drawn from the whole vocabulary, special tokens included",
        edits=(
            Edit("data/masking.py", "np.uint64(len(pieces.ordinary_ids))", "np.uint64(len(pieces.special))"),
            Edit("data/masking.py", "pieces.ordinary_ids[piece.astype(np.int64)]", "piece.astype(np.int32)"),
        ),
        seen="CompEpigen/methylbert #28; huggingface/transformers draws from the whole vocabulary as well (quoted in "
        "its #1927).",
        lesson="Five specials among 30,000 pieces are drawn once in 400,000 tokens, and nobody will ever notice. In a "
        "small vocabulary it is once in a few batches: a [PAD] in the middle of a row that is not padding to anybody "
        "else, a second [SEP], and a [MASK] more than was counted. Where the mask of padding is made from the ids "
        "afterwards, attention then skips a real place. No curve shows it. Draw often, and look whether a special id "
        "ever comes.",
        place="random_replacements_are_ordinary_pieces",
        caught_by=f"{_PARTS}::test_random_replacements_are_ordinary_pieces",
    ),
    Bug(
        name="always-mask",
        title="All chosen tokens become [MASK]: nothing is replaced at random, nothing is left",
        edits=(
            Edit(
                "data/masking.py",
                "np.where(share < mask_share, np.int32(pieces.mask_id), shown)",
                "pieces.mask_id",
            ),
        ),
        seen="graykode/ALBERT-Pytorch #1 and dhlee347/pytorchic-bert #19 add the missing fates; BERT's author on what "
        "it costs: google-research/bert #169.",
        lesson="The model learns that only [MASK] needs an answer, and may stop thinking about all other tokens: what "
        "it knows of a word in plain sight is never asked for. In fine-tuning there is no [MASK]. The loss is higher "
        "by about half a nat, since one answer in ten no longer stands there to be read; a curve that is worse while "
        "the task got purer. Some train so on purpose. Count the three fates of the chosen tokens.",
        place="left as it is",
        caught_by=f"{_PARTS}::test_share_of_the_chosen[left as it is-0.1]",
    ),
    Bug(
        name="random-replacement-overwritten",
        title="The random replacements are covered by [MASK]: 80/10/10 becomes 80/0/20",
        edits=(Edit("data/masking.py", "share < mask_share + random_share", "share < random_share"),),
        seen="lucidrains/mlm-pytorch #6: two steps that do not know of each other, the second covers the first.",
        lesson="One random number decides, and both comparisons begin at 0: whatever is below 0.1 is also below 0.8. "
        "A fifth of the answers now stands in plain sight, and a visible word can be trusted: the model learns to "
        "copy what it sees, and need not doubt it. The loss is lower than that of the right program, as twice as many "
        "answers are given away. The share of [MASK] is right, so that a look at a few rows is satisfied. Count each "
        "fate by itself.",
        place="replaced at random",
        caught_by=f"{_PARTS}::test_share_of_the_chosen[replaced at random-0.1]",
    ),
    Bug(
        name="mask-never-shown",
        title="A number is compared with a share of itself: no token is ever hidden",
        edits=(
            Edit(
                "data/masking.py",
                "share < mask_share + random_share",
                "share < share * (mask_share + random_share)",
            ),
            Edit("data/masking.py", "np.where(share < mask_share, np", "np.where(share < share * mask_share, np"),
        ),
        seen="codertimo/BERT-pytorch #29 quotes it, `if prob < prob * 0.8`, from a BERT that many began with.",
        lesson="Where a second chance is drawn from the first number, the number has to be scaled back to 0..1; "
        "scaling the limits by it instead makes a comparison that is never true. All chosen tokens stay as they are. "
        "The model is asked for words that it sees, and within a few hundred steps it answers all of them: loss next "
        "to 0, accuracy 100 %. A curve that is too good is the symptom; on held-out text with the same masking it is "
        "as good. Ask for a real [MASK], and it knows nothing.",
        place="hidden behind [MASK]",
        caught_by=f"{_PARTS}::test_share_of_the_chosen[hidden behind [MASK]-0.8]",
    ),
    Bug(
        name="targets-are-the-inputs",
        title="The answers are read after the tokens have been hidden",
        edits=(
            Edit(
                "data/masking.py",
                "return MaskedRows(ids, positions, targets)",
                "return MaskedRows(ids, positions, ids.ravel()[positions])",
            ),
        ),
        seen="Two names for one array that is changed in place: common in Python. huggingface/transformers #243 is a "
        "reader who wonders about just that.",
        lesson="The right answer is now what stands there: [MASK] in four of five cases, else the visible word. One "
        "rule, 'repeat what you see', answers everything, and the loss goes to 0 within an epoch. It also does so on "
        "held-out text, which is masked by the same code. A copy that should have been made before the change was "
        "not. Restore the original row from input and targets and compare; or ask whether [MASK] is ever a target.",
        place="targets_are_the_originals",
        caught_by=f"{_PARTS}::test_targets_are_the_originals_at_their_own_places",
    ),
    Bug(
        name="targets-shifted",
        title="The answer at each place is the token behind it",
        edits=(
            Edit(
                "data/masking.py",
                "return MaskedRows(ids, positions, targets)",
                "following = np.roll(np.asarray(input_ids, np.int32), -1)\n"
                "    return MaskedRows(ids, positions, following.ravel()[positions])",
            ),
        ),
        seen="A habit from left-to-right models, where somebody has to shift: huggingface/transformers #35066, #16940 "
        "and #44642 are about who.",
        lesson="A model that sees both sides need not guess the next token: it stands there, unless it is hidden too. "
        "So the loss falls far as soon as attention has found the place behind, and the accuracy is wonderful. Where "
        "code for causal models is used again the shift comes along, and the tests that came with it check shapes. "
        "Held-out loss agrees. At the end of a row the answer is [SEP], or padding: a target that may not occur, and "
        "easy to find.",
        place="at_their_own_places",
        caught_by=f"{_PARTS}::test_targets_are_the_originals_at_their_own_places",
    ),
    Bug(
        name="every-token-a-target",
        title="All tokens are asked for, the visible ones too",
        edits=(
            Edit(
                "data/masking.py",
                "return MaskedRows(ids, positions, targets)",
                "return MaskedRows(ids, np.flatnonzero(ordinary), np.asarray(input_ids, np.int32)[ordinary])",
            ),
        ),
        seen="lucidrains/mlm-pytorch #3; labels that were not set to −100: huggingface/transformers #20797, #4840, "
        "huggingface/course #291.",
        lesson="Six answers of seven stand in plain sight, and copying them is learned in no time: the loss falls "
        "below one nat and the accuracy rises above 85 %, which is taken for a breakthrough. The hidden tokens are "
        "one seventh of what is asked, so that what matters is learned slowly. A user of huggingface/transformers "
        "#20797 had losses of 0.1 to 0.2, and 1.6 once it was repaired. Compare the number of targets with 15 % of "
        "the tokens.",
        place="only_masked_tokens_are_targets",
        caught_by=f"{_PARTS}::test_only_masked_tokens_are_targets",
    ),
    Bug(
        name="masks-the-same-every-step",
        title="Every batch hides the same places",
        edits=(
            Edit("data/batches.py", 'RandomStream(self._seed, "masking", step)', 'RandomStream(self._seed, "masking")'),
        ),
        seen="A generator that is seeded anew or forked with its state: pytorch/pytorch #5059 (NumPy in data "
        "loaders), ecmwf/WeatherGenerator #267, pengzhiliang/MAE-pytorch #28.",
        lesson="The seed is set where the batch is made, and so each batch draws the first random numbers of that "
        "seed. Row 3 is always asked at the same columns, and in a small batch some columns are never asked at all. "
        "Rows come to another place in the next epoch, so that the loss falls almost as it should, and held-out text "
        "has masks of its own. Where the numbers are tied to the row instead (static masks, as BERT's own data had), "
        "each text is learned by heart sooner. Keep the masks of twenty steps: no two may be equal.",
        place="masks_of_its_own",
        caught_by="tests/data/test_data_promises.py::test_every_step_has_masks_of_its_own",
    ),
    Bug(
        name="whole-words-broken",
        title="Whole-word masking takes each piece for a word",
        edits=(
            Edit(
                "data/masking_units.py",
                "begins = ordinary & ~(pieces.continuation[ids] & before)",
                "begins = ordinary",
            ),
        ),
        seen="Grouping by ## or by word numbers that the tokenizer does not give. What exactly has to stay together "
        "is unclear to many: google-research/electra #57, dbiir/UER-py #200, eguilg/OpinioNet #2.",
        lesson="The setting is on, its name is in the paper's table, and ordinary masking is what happens. Hidden "
        "pieces are guessed from the visible rest of their word, as 'un' and '##able' leave little choice between "
        "them; the loss is therefore lower than that of a real whole-word run, and nobody complains about a lower "
        "loss. With a vocabulary in which most words are one piece the two hardly differ. Take words of many pieces: "
        "a word must be hidden from its beginning to its end, or not at all.",
        place="whole_words",
        caught_by=f"{_PARTS}::test_whole_words_stay_whole",
    ),
)
