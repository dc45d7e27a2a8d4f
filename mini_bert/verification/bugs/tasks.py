"""Bugs of extra tasks: answers that are not true, and losses that are weighed by chance."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug
from mini_bert.verification.injection import Edit

FAMILY = "Several tasks"

_PAIRS = "tests/data/test_data_sentence_pairs.py"
_TASKS = "tests/model/test_model_tasks.py"

BUGS: tuple[Bug, ...] = (
    Bug(
        name="another-document-is-the-same",
        title="The sentence that does not follow is drawn from all documents, its own among them",
        edits=(
            Edit(
                "data/sentence_pairs.py",
                "        rows = drawn + np.where(drawn >= own.first_rows, own.rows, 0)\n",
                "        rows = np.floor(draws * self._layout.count).astype(np.int64)\n",
            ),
        ),
        seen="NVIDIA/DeepLearningExamples #421, codertimo/BERT-pytorch #110: pairs that do follow are labelled as ones "
        "that do not.",
        lesson="In a large corpus it hardly ever happens, and the task is learned all the same. In one of few long "
        "documents a good part of the 'random' sentences are of the same document, some of them the very ones that "
        "follow: the same pair is asked twice and wants two answers. The loss then stays above what it could be, and "
        "nobody knows how low it should be. Look every pair up in the documents, by other means than those it was "
        "made with.",
        place="every_answer_is_true",
        caught_by=f"{_PAIRS}::test_every_answer_is_true_of_the_documents",
    ),
    Bug(
        name="tasks-divided-by-shard",
        title="Each shard divides a task's loss by the number of its own answers",
        edits=(
            Edit(
                "model/tasks.py",
                "        scale = np.asarray(question.weight / question.items, model.dtype)  # (TASK.1)\n",
                "        scale = np.asarray(question.weight / question.positions.size, model.dtype)\n",
            ),
        ),
        seen="OpenNMT/OpenNMT-py #2209 (harmless alone, not 'when combining the loss with another term'); "
        "luyug/Condenser #7 asks how two losses weigh beside each other.",
        lesson="With one loss a constant factor is taken up by the rate, and Adam divides it out altogether. "
        "With two, the factor is a weight: a mean over a shard is as many times too large as there are shards, and a "
        "task whose answers are spread unevenly counts more where they are few. The run is another one for another "
        "number of shards, with the same settings. Compare the gradient of a batch in one piece with that of its rows "
        "one by one.",
        place="shards_sum_to_the_whole",
        caught_by=f"{_TASKS}::test_shards_sum_to_the_whole",
    ),
    Bug(
        name="right-guess-called-fake",
        title="Every token that the model has filled in counts as replaced, also the right ones",
        edits=(
            Edit(
                "model/tasks.py",
                " = guesses != question.labels  # (TOKEN.2)\n",
                " = 1\n",
            ),
        ),
        seen="Easily done where labels are made from the mask; lucidrains/electra-pytorch #12 asks which of the two a "
        "program does.",
        lesson="In the beginning nothing changes, for hardly any guess is right. The better the language model is, "
        "the more of the 'replaced' tokens are the original ones, and no reader could tell: the detection is asked "
        "for what cannot be seen, its loss rises while the other falls, and it learns to distrust what is likely. "
        "Clark et al. (2020) count such tokens as originals, and measured that it helps.",
        place="a_guess_that_hits_the_original",
        caught_by=f"{_TASKS}::test_a_guess_that_hits_the_original_is_an_original",
    ),
)
