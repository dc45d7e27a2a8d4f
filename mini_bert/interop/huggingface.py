"""What is each of our tensors called by Hugging Face, and which way round does it lie there?

`torch.nn.Linear` keeps its weight as `[out, in]` and computes `x @ W.T + b`; ours is `[in, out]`. The names come from
the rows of a parameter table: this file knows no model, only rows that have `name`, `shape`, `hugging_face` and
`transposed`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mini_bert.errors import CheckpointError

PREFIX = "bert."
"""Begins the encoder's names in a model with a head; a bare `BertModel` is saved without it."""

_TIED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
"""Second names of one tensor; some files hold both."""

_BUFFERS = frozenset({"bert.embeddings.position_ids", "bert.embeddings.token_type_ids"})
"""Counting constants that some versions of transformers wrote along."""


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
    """Names in the file that no row, tied twin or buffer explains."""


def to_hugging_face(parameters: Mapping[str, NDArray[Any]], rows: Iterable[Row]) -> dict[str, NDArray[Any]]:
    """Hugging Face's name → contiguous array in Hugging Face's orientation."""
    return {row.hugging_face: np.ascontiguousarray(_turned(parameters[row.name], row)) for row in rows}


def from_hugging_face(arrays: Mapping[str, NDArray[Any]], rows: Sequence[Row], source: str) -> Imported:
    """Our name → array, and what was missing or unexpected; `source` is what errors call the file.

    Raises:
        CheckpointError: a tensor has another shape than its row, holds no floats, or two names of one tied tensor
            differ.
    """
    foreign = _with_prefix(arrays)
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
        array = foreign.pop(row.hugging_face, None)
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


def _with_prefix(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays under the names that a model with a head gives them."""
    if any(name.startswith(PREFIX) for name in arrays):
        return dict(arrays)
    encoder = ("embeddings.", "encoder.", "pooler.")
    return {PREFIX + name if name.startswith(encoder) else name: array for name, array in arrays.items()}
