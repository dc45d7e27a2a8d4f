"""Texts, or pairs of texts, with a label each: what a model is fine-tuned on, and scored by.

The published sets (each by the files and columns that are in use; what GLUE keeps secret is not here):

    sst2   movie reviews, negative or positive (Socher et al. 2013, in GLUE's form)
    cola   sentences, unacceptable or acceptable (Warstadt et al. 2019); dev is both published parts, as in GLUE
    mrpc   pairs of news sentences, paraphrases or not (Dolan and Brockett 2005); "dev" is the published test set
    rte    does the second sentence follow from the first? (Dagan et al. 2006, as in GLUE)
    stsb   pairs with a score from 0 to 5 of how near their meanings are (Cer et al. 2017): regression

Any table of the user's own has the same standing: see labelled_files.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.order import permuted
from mini_bert.data.task_sets.columns import fetched, rows_of
from mini_bert.data.task_sets.labelled_files import Row, class_names, labels_of, rows_of_file
from mini_bert.data.task_sets.relatedness import read_stsb
from mini_bert.errors import DataError, InvalidInputError, nearest
from mini_bert.random_streams import RandomStream


class LabelledExample(NamedTuple):
    """A text, or a pair, and what is true of it."""

    text: str
    pair: str | None
    label: float
    """The number of its class; or its score."""


class LabelledSet(NamedTuple):
    """Examples of one task."""

    name: str
    examples: tuple[LabelledExample, ...]
    classes: tuple[str, ...]
    """Names of the classes, in order; none: labels are scores."""
    metric: str = "accuracy"
    """The score by which models are chosen: accuracy, f1, matthews or spearman."""

    @property
    def regression(self) -> bool:
        """Whether labels are scores."""
        return not self.classes

    @property
    def labels(self) -> NDArray[np.generic]:
        """[n] class numbers (int64), or scores (float64)."""
        kind = np.float64 if self.regression else np.int64
        return np.array([example.label for example in self.examples], kind)

    @property
    def sha256(self) -> str:
        """Of all examples and names of classes."""
        content = json.dumps([self.classes, self.examples], ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def of_pairs(self) -> bool:
        """Whether each example is two texts."""
        return any(example.pair is not None for example in self.examples)

    def take(self, numbers: Iterable[int]) -> LabelledSet:
        """The examples of these numbers, in that order."""
        return self._replace(examples=tuple(self.examples[number] for number in numbers))

    def sample(self, most: int | None, seed: int = 0) -> LabelledSet:
        """At most so many of the examples, drawn by a seed and kept in their order; None: all.

        Raises:
            InvalidInputError: none are asked for.
        """
        n = len(self.examples)
        if most is not None and most < 1:
            raise InvalidInputError("--max-samples", got=most, expected="at least 1")
        if most is None or most >= n:
            return self
        return self.take(np.sort(permuted(n, RandomStream(seed, "labelled/sample"), np.arange(most))).tolist())


class Task(NamedTuple):
    """A published set: its data set in the registry, and how it is read and scored."""

    source: str
    train: tuple[str, ...]
    dev: tuple[str, ...]
    classes: tuple[str, ...]
    metric: str
    read: Callable[[Path], list[Row]]
    about: str


def _read_cola(path: Path) -> list[Row]:
    return [Row(f"{path}:{number}", text, None, label) for number, (_, label, _, text) in rows_of(path, 4)]


def _read_mrpc(path: Path) -> list[Row]:
    rows = [Row(f"{path}:{number}", first, second, label) for number, (label, _, _, first, second) in rows_of(path, 5)]
    return [row for row in rows if row.label != "Quality"]


def _read_stsb(path: Path) -> list[Row]:
    rows = [Row(str(path), pair.first, pair.second, str(pair.score)) for pair in read_stsb(path)]
    if (outside := next((row.label for row in rows if not 0 <= float(row.label) <= 5), None)) is not None:
        raise DataError(str(path), got=f"the score {outside}", expected="0 to 5: −1 stands for a score that is secret")
    return rows


TASKS = {
    "sst2": Task(
        "sst2-glue",
        ("train.tsv",),
        ("dev.tsv",),
        ("negative", "positive"),
        "accuracy",
        rows_of_file,
        "movie reviews: negative or positive",
    ),
    "cola": Task(
        "cola",
        ("in_domain_train.tsv",),
        ("in_domain_dev.tsv", "out_of_domain_dev.tsv"),
        ("unacceptable", "acceptable"),
        "matthews",
        _read_cola,
        "is the sentence acceptable English?",
    ),
    "mrpc": Task(
        "mrpc",
        ("msr_paraphrase_train.txt",),
        ("msr_paraphrase_test.txt",),
        ("different", "paraphrase"),
        "f1",
        _read_mrpc,
        "are two sentences paraphrases? (scored on the published test set)",
    ),
    "rte": Task(
        "rte",
        ("train.tsv",),
        ("dev.tsv",),
        ("entailment", "not_entailment"),
        "accuracy",
        rows_of_file,
        "does the second sentence follow from the first?",
    ),
    "stsb": Task(
        "stsb",
        ("sts-train.csv",),
        ("sts-dev.csv",),
        (),
        "spearman",
        _read_stsb,
        "how near are the meanings of two sentences, from 0 to 5?",
    ),
}
"""The published tasks, by name."""

_WORDS_LOOKED_AT, _LONGEST_PHRASE = 100, 40
"""Of a long text, where phrases are looked for, and how long these may be."""


def load_task(name: str, split: str = "train") -> LabelledSet:
    """The split `train` or `dev` of a published task.

    Raises:
        DataError: there is no such task, or its files are not there and cannot be fetched.
        ChecksumError: a file holds other bytes than it should.
    """
    if name not in TASKS:
        raise DataError(
            "TASK",
            got=f"'{name}'",
            expected=f"one of {', '.join(TASKS)}, or any name beside --train-file FILE",
            advice=nearest(name, TASKS),
        )
    task = TASKS[name]
    files = fetched(task.source, *(task.train if split == "train" else task.dev))
    rows = [row for file in files for row in task.read(file)]
    return _of_rows(name, rows, task.classes, task.metric)


def read_labelled(path: str | Path, classes: tuple[str, ...] | None = None, metric: str | None = None) -> LabelledSet:
    """A file of labelled texts (see labelled_files.py).

    Args:
        path: .tsv, .csv or .jsonl.
        classes: their names, where a model or a training set has fixed them; () for scores; None: as found.
        metric: as in `LabelledSet`; None: accuracy, or spearman for scores.

    Raises:
        DataError: the file cannot be read so, a label is missing, secret (−1) or not among the classes, or there is one
            score only.
    """
    path = Path(path)
    rows = rows_of_file(path)
    classes = class_names(rows) if classes is None else classes
    if not classes and len(rows) < 2:
        raise DataError(str(path), got="one score", expected="two at least: of one there is no correlation")
    return _of_rows(path.stem, rows, classes, metric or ("accuracy" if classes else "spearman"))


def _of_rows(name: str, rows: list[Row], classes: tuple[str, ...], metric: str) -> LabelledSet:
    labels = labels_of(rows, classes)
    examples = (LabelledExample(row.text, row.pair, label) for row, label in zip(rows, labels, strict=True))
    return LabelledSet(name, tuple(examples), classes, metric)


def split_off(whole: LabelledSet, share: float, most: int, seed: int = 0) -> tuple[LabelledSet, LabelledSet]:
    """A training set and, drawn from it by a seed, what epochs and rates are chosen on: a share of its texts, at most
    `most`, each once.

    SST-2's training set is made of phrases of each other, and a choice by what was learned by heart would be none. So
    only texts are drawn that stand within no other text, as a run of words, and what stands within a drawn one is left
    out of training.

    Raises:
        DataError: there is too little for both.
    """
    n = len(whole.examples)
    texts = [_words(example) for example in whole.examples]
    within = _texts_within_others(whole.examples, texts)
    order = permuted(n, RandomStream(seed, "labelled/split"), np.arange(n)).tolist()
    first_of = {texts[i]: i for i in reversed(order) if texts[i] not in within}
    wanted = min(max(1, round(share * len(set(texts)))), most)
    drawn = set(islice((i for i in order if first_of.get(texts[i]) == i), wanted))
    chosen = whole.take(sorted(drawn))
    all_texts = set(texts)
    learned_along = {span for example in chosen.examples for span in _spans(example) if span in all_texts}
    kept = whole.take(i for i, words in enumerate(texts) if i not in drawn and words not in learned_along)
    if not chosen.examples or not kept.examples:
        raise DataError(
            f"the training set {whole.name}",
            got=f"{n} examples with {len(set(texts))} different texts",
            expected="enough to learn from and, apart from these, to choose by",
        )
    return kept, chosen


def _texts_within_others(examples: Sequence[LabelledExample], texts: Sequence[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """Texts that are a run of words of a longer one."""
    known = set(texts)
    return {
        span
        for example, words in zip(examples, texts, strict=True)
        for span in _spans(example)
        if span in known and len(span) < len(words)
    }


def _words(example: LabelledExample) -> tuple[str, ...]:
    """The words of a text, and of its pair behind a mark that is no word."""
    text, pair = tuple(example.text.lower().split()), example.pair
    return text if pair is None else (*text, "\t", *pair.lower().split())


def _spans(example: LabelledExample) -> Iterable[tuple[str, ...]]:
    words = _words(example)
    yield words
    if example.pair is None:
        begun = words[:_WORDS_LOOKED_AT]
        for i in range(len(begun)):
            for j in range(i + 1, min(i + _LONGEST_PHRASE, len(begun)) + 1):
                yield begun[i:j]
