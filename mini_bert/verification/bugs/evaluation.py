"""Bugs of evaluation: a right model, and a wrong number about it."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug
from mini_bert.verification.injection import Edit

FAMILY = "Evaluation"

_CONDITIONS = "tests/evaluation/test_evaluation_conditions.py"
_PROMISES = "tests/data/test_data_promises.py"
_STEP = "tests/training/test_step_parts.py"

BUGS: tuple[Bug, ...] = (
    Bug(
        name="dropout-in-evaluation",
        title="Dropout stays on while held-out text is scored",
        edits=(
            Edit(
                "model/bert.py",
                "            return self._mlm_forward(batch, None, tap)[0]\n",
                '            return self._mlm_forward(batch, RandomStream(0, "dropout"), tap)[0]\n',
            ),
        ),
        seen="A missing `eval()`: wolny/pytorch-3dunet #53, illuin-tech/vidore-benchmark #42; one layer that was not "
        "told: wenwenyu/PICK-pytorch #77.",
        lesson="A tenth of the units is missing at each site, and the score is that of a damaged model. It still "
        "improves with training, in step with the right one, some hundredths to tenths of a nat above it; models with "
        "more dropout look worse than they are, so that the search for a good dropout ends at 0. The scatter between "
        "two evaluations of one model is the usual hint, but a fixed seed takes it away. Compare with a pass that has "
        "no dropout to switch off.",
        place="without_dropout",
        caught_by=f"{_CONDITIONS}::test_evaluation_is_without_dropout",
    ),
    Bug(
        name="masks-drawn-anew",
        title="The held-out masks are drawn anew for each evaluation",
        edits=(
            Edit(
                "data/batches.py",
                'RandomStream(seed, "held_out/masking")',
                'RandomStream(int(np.random.randint(2**31)), "held_out/masking")',
            ),
        ),
        seen="Evaluation through the collator of training: huggingface/transformers #36357 asks for a seed, "
        "IndicoDataSolutions/finetune #528 mends it; tolgadur/phantom-transfer #66 draws questions anew.",
        lesson="Every model sits another exam. With a few thousand masks the loss moves by some hundredths of a nat "
        "from one evaluation to the next, which is as much as most ideas are worth: half of all useless changes look "
        "like progress once. Nothing is wrong on average, and that is said in defence. But fixed masks cost nothing, "
        "and the difference of two models at the same masks is far more certain than either loss. Evaluate twice: the "
        "two numbers must be equal, not similar.",
        place="held_out_masks_are_the_same",
        caught_by=f"{_PROMISES}::test_held_out_masks_are_the_same_at_every_call",
    ),
    Bug(
        name="training-text-evaluated",
        title="What is scored as held-out text is the training text",
        edits=(
            Edit(
                "data/tokens.py",
                "return TokenCorpus(tokenizer, train, held, provenance)",
                "return TokenCorpus(tokenizer, train, train, provenance)",
            ),
        ),
        seen="One wrong variable: JJGO/shrinkbench #7, alankbi/detecto #38, andpol5/credit-classifier #1, "
        "luxonis/luxonis-train #213.",
        lesson="The held-out loss lies on top of the training loss, as it does for a while in every healthy run with "
        "much text. Over-fitting has been abolished: more parameters and more epochs always help, and early stopping "
        "never stops. Splitting was done right, and its tests pass; the mistake is in who gets which part. Follow the "
        "names of the documents all the way to the score, and let no document be on both sides.",
        place="held_out_documents",
        caught_by=f"{_PROMISES}::test_held_out_documents_are_not_trained_on",
    ),
    Bug(
        name="last-batch-dropped",
        title="The held-out rows that do not fill a batch are left out",
        edits=(
            Edit(
                "data/batches.py",
                "for first in range(0, wanted, size)\n",
                "for first in range(0, wanted - size + 1, size)\n",
            ),
        ),
        seen="`drop_last=True`: thuml/Autoformer #104, whose results and those of its descendants were evaluated anew "
        "(yuqinie98/PatchTST #7), verl-project/verl #78, ai2cm/ace #647.",
        lesson="What is scored depends on the batch size, which is a matter of memory. Rows are sorted by length, or "
        "by document, or not at all: the last ones are never a fair sample. The model that needs small batches gets "
        "another exam than the others, and with a batch larger than the set nothing is scored at all. The loss "
        "changes in the third digit, and nobody asks why. Ask for a number of rows that the batch size does not "
        "divide, and count.",
        place="no_row_out",
        caught_by=f"{_PROMISES}::test_held_out_batches_leave_no_row_out",
    ),
    Bug(
        name="mean-of-row-means",
        title="The loss is averaged in each row, and the rows are averaged",
        edits=(Edit("metrics/clustered_means.py", "mean = float(s.sum() / tokens)", "mean = float((s / n).mean())"),),
        seen="huggingface/transformers #34387 (its page on perplexity), macournoyer/neuralconvo #67, "
        "decisionintelligence/TFB #66.",
        lesson="A row with one mask counts as much as a row with ten. Short rows may be harder, having less to guess "
        "from, or easier, being much alike: so the number is off in one direction or the other where lengths differ, "
        "and right where all are alike. Two layouts of the same text cannot be compared, and where batches are "
        "averaged their size changes the result. The difference is of a size that is taken for noise. Two rows, one "
        "with one mask and one with three, and losses that can be done by head, settle it.",
        place="mean_over_tokens_not_over_rows",
        caught_by=f"{_CONDITIONS}::test_loss_is_the_mean_over_tokens_not_over_rows",
    ),
    Bug(
        name="mean-of-perplexities",
        title="The perplexity is the mean of the rows' perplexities",
        edits=(
            Edit(
                "evaluation/masked_lm.py",
                "            perplexity=perplexity(loss.mean),\n",
                "            perplexity=float(\n"
                "                np.mean([perplexity(s / n) for s, n in zip(rows.loss, rows.masked) if n])\n"
                "            ),\n",
            ),
        ),
        seen="keras-team/keras-hub #2958 averaged over batches; magenta/magenta #239 went from the right form to this "
        "one as a repair.",
        lesson="The exponential of a mean is not the mean of exponentials, which is always larger: one row with a "
        "loss of 12 nats has a perplexity of 160,000 and decides everything. The number moves with the size of the "
        "batches, falls when they grow, and hides whether the typical row got better. Loss and perplexity in one "
        "table then contradict each other, and this is the test: perplexity = exp(loss), to the last digit.",
        place="perplexity_is_that_of_the_mean_loss",
        caught_by=f"{_CONDITIONS}::test_perplexity_is_that_of_the_mean_loss",
    ),
    Bug(
        name="perplexity-of-bits",
        title="A loss in nats is put into the formula for bits",
        edits=(Edit("metrics/perplexity.py", "return math.exp(loss)", "return 2.0**loss"),),
        seen="ChengyueGongR/Frequency-Agnostic #8 has both forms in one project; proposed in the review of "
        "pytorch/pytorch #6427.",
        lesson="Textbooks write 2 to the entropy, with the entropy in bits; every framework's cross-entropy is in "
        "nats. A loss of 4 gives 16 instead of 55, and the model seems better than the best published. The order of "
        "models stays the same, so that all comparisons at home look fine. A model that guesses gives it away: its "
        "perplexity must be the number of pieces.",
        place="perplexity_of_guessing",
        caught_by=f"{_CONDITIONS}::test_perplexity_of_guessing_is_the_number_of_pieces",
    ),
    Bug(
        name="accuracy-of-all-tokens",
        title="Right answers are divided by all tokens, not by those that were asked for",
        edits=(Edit("training/step.py", "n_correct / masked,", "n_correct / max(tokens, 1),"),),
        seen="Ignored or padded places in the denominator, some counted as right: jsbaan/transformer-from-scratch #7, "
        "cs230-stanford/cs230-code-examples #13, DaoyuanLi2816/Molecule-Generator #21.",
        lesson="Only 15 % of the tokens are asked for, so the accuracy can never exceed 15 %. It rises with training, "
        "and looks like a model that learns hardly anything; people then change what was right. Where ignored places "
        "count as right instead, the same mistake begins at 85 % and nothing seems to be left to learn. A perfect "
        "model must score 1 and a useless one 0: hand the metric its own answers.",
        place="accuracy_is_a_share_of_the_masked_tokens",
        caught_by=f"{_STEP}::test_accuracy_is_a_share_of_the_masked_tokens",
    ),
    Bug(
        name="ties-are-right",
        title="An answer counts as best if no other is better, ties included",
        edits=(
            Edit(
                "metrics/top_k.py",
                "return np.count_nonzero(scores >= at_targets[:, None], axis=1).astype(np.int64)",
                "return 1 + np.count_nonzero(scores > at_targets[:, None], axis=1).astype(np.int64)",
            ),
        ),
        seen="stanford-crfm/helm #737, lyst/lightfm #149, elixir-nx/scholar #360 (a constant model is perfect).",
        lesson="With real-valued scores ties are rare, and both rules agree. But models do collapse: all outputs "
        "equal, or all NaN after a comparison that is never true, or rounded to bfloat16, in which many logits are "
        "alike. Under this rule a dead model has an accuracy of 100 %, and baselines that give many answers the same "
        "score look strong; published tables have had such. Score a model that gives every piece the same: it must be "
        "right about nothing.",
        place="ties_are_never_right",
        caught_by=f"{_CONDITIONS}::test_ties_are_never_right",
    ),
    Bug(
        name="best-is-worst",
        title="The checkpoint that is kept as the best is the one with the highest loss",
        edits=(Edit("training/loop.py", "loss < progress.best_loss", "loss > progress.best_loss"),),
        seen="huggingface/transformers #31142 (seven hours lost), pyg-team/pytorch_geometric #6306, "
        "mila-iqia/cookiecutter-pyml #119: the default was 'greater is better'.",
        lesson="Whether more is better depends on the metric, and a program that does not ask has to be right by "
        "chance. The best is found at the first evaluation and never again, while the loss falls as it should: "
        "everything in the log is in order. Whoever takes the last checkpoint never notices; whoever takes the best "
        "gets the one that was trained least, and blames the training. Hand the selection a few made-up losses that "
        "fall and rise, and look which one it keeps.",
        place="best_checkpoint",
        caught_by="tests/training/test_training_pretrain.py::test_the_best_checkpoint_is_the_one_with_the_lowest_held_out_loss",
    ),
)
