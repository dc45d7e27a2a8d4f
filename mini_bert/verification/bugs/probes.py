"""Bugs of probes and tasks: a right model, read wrongly, or compared with what it should not be."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug
from mini_bert.verification.injection import Edit

FAMILY = "Probes and labelled tasks"

_EMBEDDINGS = "tests/inference/test_sentence_embeddings.py"
_LABELLED = "tests/data/test_labelled.py"
_PSEUDO = "tests/inference/test_pseudo_likelihood.py"

BUGS: tuple[Bug, ...] = (
    Bug(
        name="pooling-over-padding",
        title="The mean over a sentence takes padding in, and [CLS] and [SEP]",
        edits=(
            Edit(
                "inference/sentence_embeddings.py",
                "(states_BTH * inner_BT[:, :, None]).sum(axis=1) / (lengths_B - 2)[:, None]",
                "states_BTH.mean(axis=1)",
            ),
        ),
        seen="huggingface/transformers #17463 (results that change with the batch size), jsboige/CoursIA #15045, "
        "autoliuweijie/BERT-whitening-pytorch #13.",
        lesson="Attention knows the mask, but what it gives for padding is not zero, and a plain mean takes it. A "
        "sentence then has another vector in each company: the longer its neighbours, the more padding. Similarities "
        "still look sensible, short sentences become like each other, and the same text twice is not 1. Embed a "
        "sentence alone and beside a long one; the two vectors must agree.",
        place="agrees_with_one_text_at_a_time",
        caught_by=f"{_EMBEDDINGS}::test_each_layer_and_pooling_agrees_with_one_text_at_a_time[mean-<lambda>-settings0]",
    ),
    Bug(
        name="order-of-length-kept",
        title="Texts are sorted by length for speed, and their answers come in that order",
        edits=(Edit("inference/text_labels.py", "found[numbers] = HEADS", "found[done : done + B] = HEADS"),),
        seen="fastai/fastai #975, mead-ml/mead-baseline #427, khanhptnk/bandit-nmt #4.",
        lesson="Each answer is right, and belongs to another text. Accuracy is that of chance, or a little more where "
        "length and label go together, so it looks like a model that has learned nothing. With texts of one length, "
        "as in many tests, nothing is wrong. Score texts of all lengths in a mixed order, and each alone.",
        place="one_forward_pass_a_text",
        caught_by="tests/inference/test_text_labels.py::test_outputs_are_those_of_one_forward_pass_a_text[texts]",
    ),
    Bug(
        name="rest-of-word-visible",
        title="A piece is scored while the rest of its word can be seen",
        edits=(
            Edit(
                "inference/pseudo_likelihood.py",
                "_word_ends(tokenizer.continuation[pieces])[places] if text.within_word else places + 1",
                "places + 1",
            ),
        ),
        seen="How pseudo-likelihood was defined at first (Salazar et al. 2020); mended in kanishkamisra/minicons #31 "
        "after Kauf and Ivanova 2023.",
        lesson="`souven ##ir` is guessed from its other half, so a rare word of many pieces scores higher than a "
        "common one of one piece, and sentences with names and long words win comparisons of grammar. No error, no "
        "odd number: only a measure of something else. It is why the two ways stand under names of their own; a way "
        "that is called within words has to hide all that follows in the word.",
        place="the_rest_of_a_word_is_hidden",
        caught_by=f"{_PSEUDO}::test_the_rest_of_a_word_is_hidden_and_nothing_else",
    ),
    Bug(
        name="scored-in-plain-sight",
        title="Pieces are scored without being hidden",
        edits=(
            Edit(
                "inference/pseudo_likelihood.py",
                "ids[:, 1:-1] = np.where(hidden, tokenizer.mask_id, pieces[seen])",
                "ids[:, 1:-1] = pieces[seen]",
            ),
        ),
        seen="ntranoslab/esm-variants #12: one pass over the unmasked text, called pseudo-likelihood.",
        lesson="The model reads the answer: one masked place in ten was shown unchanged in training, so it has "
        "learned to copy. Log-likelihoods are near 0, perplexities near 1, and what differs between two sentences is "
        "how readily their pieces are copied, which follows frequency. It is fast, correlates with the right measure, "
        "and is not it. Compare with a loop that hides one place at a time.",
        place="one_mask_at_a_time",
        caught_by=f"{_PSEUDO}::test_one_mask_at_a_time_says_the_same[float64-1e-12-False]",
    ),
    Bug(
        name="tied-pairs-are-right",
        title="Of two sentences with the same score the good one is taken to win",
        edits=(
            Edit("probing/minimal_pairs.py", "outcome = (good > bad) + 0.5 * (good == bad)", "outcome = good >= bad"),
        ),
        seen="A baseline of word frequencies for BabyLM that seemed unexpectedly good because identical scores counted "
        "as correct (Elementary Baselines for BabyLM, 2025).",
        lesson="Whoever sees no difference is right about everything. Pairs with the same words in another order, or "
        "with two words that are both [UNK], tie for every score that adds up pieces: such baselines gain tens of "
        "points, and a model that has collapsed to one answer gets 100 %. Nothing is odd for a good model, since "
        "floats hardly ever tie. Count a tie as a half, and say how many there were.",
        place="ties_count_one_half",
        caught_by="tests/probing/test_probing_minimal_pairs.py::test_ties_count_one_half_and_are_reported",
    ),
    Bug(
        name="counts-not-continuations",
        title="Kneser-Ney's shorter n-grams are counted by tokens, not by what precedes them",
        edits=(Edit("inference/kneser_ney.py", "        if levels:  # (KN.3)\n", "        if False:  # (KN.3)\n"),),
        seen="nltk/nltk #2659, mended by #2709; smilli/kneser-ney #5 takes the right way for the bug.",
        lesson="What is left is interpolated absolute discounting. Probabilities still sum to one, and the perplexity "
        "is a few per cent higher, so nobody looks. But the idea of the method is gone: `Francisco` is frequent and "
        "follows `San` alone, and behind another word it is likely again. As a baseline it is too weak, which makes "
        "the model beside it look better. Compare with a transcription of the equations over dictionaries.",
        place="sentences_agree_with_dictionaries",
        caught_by="tests/inference/test_kneser_ney.py::test_sentences_agree_with_dictionaries[3]",
    ),
    Bug(
        name="labels-left-behind",
        title="Examples are shuffled, and their labels are not",
        edits=(Edit("data/labelled_batches.py", "self._labels[numbers]", "self._labels[np.sort(numbers)]"),),
        seen="dennybritz/cnn-text-classification-tf #136; udacity/sdc-issue-reports #1326 (a check that does not see "
        "it).",
        lesson="Within a batch each text has some other text's label. The loss stays at that of the share of the "
        "classes, which is what a rate that is too high or a task that is too hard looks like, too. It can still fall "
        "in time: a large model learns the wrong labels by heart. Where classes come in blocks, some labels are right "
        "by accident. Give every example a label that can be read off its text, and look.",
        place="with_its_label",
        caught_by="tests/data/test_labelled_batches.py::test_every_example_comes_once_an_epoch_with_its_label[61]",
    ),
    Bug(
        name="secret-label-is-a-class",
        title="The −1 of a test set whose labels are secret is read as a label",
        edits=(
            Edit(
                "data/task_sets/labelled_files.py",
                '("", "nan", "none", "null", "-1", "-1.0", "-100")',
                '("", "nan", "none", "null")',
            ),
        ),
        seen="SST-2's test set: huggingface/datasets #245, keras-team/keras-hub #175.",
        lesson="All examples have the label −1. Used as an index it means the last class, and a metric says what "
        "share of the texts the model calls that; as a class of its own it is never named, and the accuracy is 0. "
        "People have reported both, and searched for the fault in their model. A label that is none must be refused "
        "where the file is read, with the line.",
        place="refused_by_name_and_line",
        caught_by=f"{_LABELLED}::test_what_is_no_labelled_file_is_refused_by_name_and_line[6]",
    ),
)
