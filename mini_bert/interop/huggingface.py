"""What is each of our tensors called by Hugging Face, and which way round does it lie there?

`torch.nn.Linear` keeps its weight as `[out, in]` and computes `x @ W.T + b`; ours is `[in, out]`. The names come from
the rows of a parameter table: this file knows no model, only rows that have `name`, `shape`, `hugging_face` and
`transposed`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mini_bert.errors import CheckpointError, InvalidInputError

_TIED = {
    "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
"""Second names of one tensor; some files hold both."""

_BUFFERS: dict[str, Callable[[int], NDArray[Any]]] = {
    "embeddings.position_ids": np.arange,
    "embeddings.token_type_ids": np.zeros,
}
"""Constants that some versions of transformers wrote along, by their size."""

_OLD = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
"""As TensorFlow's BERT calls them, and so the first files of PyTorch did."""

_HEADS = {
    "mlm": "cls.predictions",
    "nsp": "cls.seq_relationship",
    "sop": "cls.sentence_order",
    "std": "cls.shuffled_token",
    "rtd": "cls.replaced_token",
}
"""What the tensors of a head of pre-training are called by."""

_PARTS = (*_HEADS.values(), "pooler", "classifier", "qa_outputs")


def bare(name: str) -> str:
    """A name as a bare `BertModel` has it today: models with a head put `bert.` before the encoder's names."""
    name = name.removeprefix("bert.")
    for old, new in _OLD.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def part_of(name: str) -> str:
    """What a tensor of a Hugging Face file belongs to: a head's part, or the encoder."""
    return next((part for part in _PARTS if bare(name).startswith(f"{part}.")), "encoder")


def heads_of(names: Iterable[str], source: str, wanted: Collection[str] | None = None) -> tuple[str, ...]:
    """The heads that a file holds, by the names of its tensors; `wanted` settles what they leave open.

    Raises:
        CheckpointError: there is a head that could be one of several.
    """
    parts = {part_of(name) for name in names}
    heads = [head for head, part in _HEADS.items() if part in parts]
    if "classifier" in parts:
        if wanted is not None:
            heads += [head for head in ("classifier", "token_classifier") if head in wanted][:1]
        elif "pooler" in parts:
            raise CheckpointError(
                source,
                got="a classifier, and no architectures in config.json that say of what",
                expected="BertForSequenceClassification or BertForTokenClassification",
                advice='Say which: heads=("classifier",) or heads=("token_classifier",).',
            )
        else:
            heads.append("token_classifier")  # the other one reads the pooler
    return tuple(heads)


class Row(Protocol):
    """What is needed of a row of the parameter table."""

    @property
    def name(self) -> str:
        """Our name."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Our shape."""

    @property
    def hugging_face(self) -> str:
        """The name in a Hugging Face file."""

    @property
    def transposed(self) -> bool:
        """Whether it lies there the other way round."""


class Imported(NamedTuple):
    """What a foreign file had to say about a parameter table."""

    arrays: dict[str, NDArray[Any]]
    """Our name → array in our orientation, in the file's dtype; views, where possible."""
    missing: tuple[str, ...]
    """Our names of the rows that the file lacks."""
    unexpected: tuple[str, ...]
    """Names in the file, bare, that no row, tied twin or buffer explains."""


def to_hugging_face(parameters: Mapping[str, NDArray[Any]], rows: Sequence[Row]) -> dict[str, NDArray[Any]]:
    """Hugging Face's name → contiguous array in Hugging Face's orientation.

    Raises:
        InvalidInputError: two rows bear one name there, as the two kinds of classifier do.
    """
    arrays = {row.hugging_face: np.ascontiguousarray(_turned(parameters[row.name], row)) for row in rows}
    if len(arrays) != len(rows):
        raise InvalidInputError(
            "heads",
            got="two heads whose tensors Hugging Face calls by the same names",
            expected="one of them at a time",
        )
    return arrays


def from_hugging_face(arrays: Mapping[str, NDArray[Any]], rows: Sequence[Row], source: str) -> Imported:
    """Our name → array, and what was missing or unexpected; `source` is what errors call the file.

    Raises:
        CheckpointError: a tensor has another shape than its row, holds no floats, or two names of one tensor differ.
    """
    foreign = _under_one_name(arrays, source)
    decodes = any(part_of(row.hugging_face) == "cls.predictions" for row in rows)
    for second, first in _TIED.items():
        twin = foreign.pop(second, None)
        if twin is not None and not np.array_equal(foreign.setdefault(first, twin), twin) and decodes:
            raise CheckpointError(
                source,
                got=f"{second} unlike {first}",
                expected="the decoder tied to the token embeddings, as in BERT",
            )
    for name, constant in _BUFFERS.items():
        buffer = foreign.pop(name, None)
        if buffer is not None and not np.array_equal(buffer.ravel(), constant(buffer.size)):
            raise CheckpointError(source, got=f"{name} of its own", expected="those that count from 0, as in BERT")
    found, missing = {}, []
    for row in rows:
        array = foreign.pop(bare(row.hugging_face), None)
        if array is None:
            missing.append(row.name)
            continue
        array = _turned(array, row)
        if array.shape != tuple(row.shape) or array.dtype.kind != "f":
            raise CheckpointError(
                source,
                got=f"{row.hugging_face} as {array.dtype} of shape {list(array.shape)}",
                expected=f"floats of shape {list(row.shape)} for {row.name}, as config.json says",
            )
        found[row.name] = array
    return Imported(found, tuple(missing), tuple(sorted(foreign)))


def _under_one_name(arrays: Mapping[str, NDArray[Any]], source: str) -> dict[str, NDArray[Any]]:
    """The arrays by their bare names.

    Raises:
        CheckpointError: two names of the file mean one tensor, and hold two.
    """
    foreign: dict[str, NDArray[Any]] = {}
    for name, array in arrays.items():
        if bare(name) in foreign and not np.array_equal(foreign[bare(name)], array):
            raise CheckpointError(source, got=f"a second, other {bare(name)} as {name}", expected="each tensor once")
        foreign[bare(name)] = array
    return foreign


def _turned(array: NDArray[Any], row: Row) -> NDArray[Any]:
    return array.T if row.transposed else array
