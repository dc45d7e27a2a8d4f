"""What is each of our tensors called by Hugging Face, and which way round does it lie there?

`torch.nn.Linear` keeps its weight as `[out, in]` and computes `x @ W.T + b`; ours is `[in, out]`. The names come from
the rows of a parameter table: this file knows no model, only rows that have `name`, `shape`, `hugging_face` and
`transposed`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mini_bert.errors import CheckpointError, InvalidInputError

_TIED = {
    "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
"""Second names of one tensor; some files hold both."""

_BUFFERS = frozenset({"embeddings.position_ids", "embeddings.token_type_ids"})
"""Counting constants that some versions of transformers wrote along."""


def bare(name: str) -> str:
    """A name as a bare `BertModel` has it: models with a head put `bert.` before the encoder's names."""
    return name.removeprefix("bert.")


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
    foreign = {bare(name): array for name, array in arrays.items()}
    for second, first in _TIED.items():
        twin = foreign.pop(second, None)
        if twin is not None and not np.array_equal(foreign.setdefault(first, twin), twin):
            raise CheckpointError(
                source,
                got=f"{second} unlike {first}",
                expected="the decoder tied to the token embeddings, as in BERT",
            )
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
    return Imported(found, tuple(missing), tuple(sorted(foreign.keys() - _BUFFERS)))


def _turned(array: NDArray[Any], row: Row) -> NDArray[Any]:
    return array.T if row.transposed else array
