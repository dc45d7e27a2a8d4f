"""What a pass leaves behind for whoever looks: every intermediate by its name, and what the backward pass needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mini_bert.errors import InvalidInputError
from mini_bert.ops.contract import Array, Tap, identity


class Recorder:
    """A tap that keeps a copy of everything that passes by, in order of computation."""

    def __init__(self, tap: Tap = identity) -> None:
        """Record what `tap` makes of each intermediate: edits are recorded, not what they replaced."""
        self.arrays: dict[str, Array] = {}
        self._tap = tap

    def __call__(self, name: str, value: Array) -> Array:
        """Copy, since the array may be overwritten once the tap has returned."""
        tapped = self._tap(name, value)
        if tapped is not value:
            if not isinstance(tapped, np.ndarray) or tapped.shape != value.shape:
                got = f"{type(tapped).__name__} {list(np.shape(tapped))}"
                raise InvalidInputError(
                    "tap", got=f"{got} for {name}", expected=f"an array of shape {list(value.shape)} returned"
                )
            tapped = tapped.astype(value.dtype, copy=False)
        self.arrays[name] = tapped.copy()
        return tapped


class Cache(Mapping[str, Array]):
    """Name → array, in order of computation; `saved` is for the backward pass.

    The keys are the names that taps see: `layer_0.attention.attention_weights` [B, A, T, S].
    """

    def __init__(self, arrays: dict[str, Array], saved: Any, head: str | None) -> None:
        self._arrays = arrays
        self.saved = saved
        """The nested `Saved` of the pass."""
        self.head = head
        """The head whose logits the pass ended with; None: the hidden states themselves."""

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)
