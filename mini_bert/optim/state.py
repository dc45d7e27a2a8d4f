"""What an optimiser keeps from step to step, as named vectors; and the settings that say what that is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from mini_bert.ops.contract import Array
from mini_bert.optim.layout import Layout, Tensor, length

AROUND = ("slow", "average")
"""Vectors as long as the parameters that stand around any optimiser: of lookahead, of averaging."""


class Settings(NamedTuple):
    """Of an optimiser and what stands around it; the section `optimizer` of a configuration."""

    name: str = "adamw"
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-6
    weight_decay: float = 0.01
    momentum: float = 0.95
    nesterov: bool = True
    newton_schulz_steps: int = 5
    layer_decay: float = 1.0
    position_lr_factor: float = 1.0
    lookahead: int | None = None
    lookahead_alpha: float = 0.5
    ema_decay: float | None = None

    @property
    def around(self) -> tuple[str, ...]:
        """The vectors that stand around the optimiser's own."""
        return ("slow",) * (self.lookahead is not None) + ("average",) * (self.ema_decay is not None)


class Part(NamedTuple):
    """A stretch of the vectors that one call updates."""

    first: Tensor
    """The tensor that it begins in; all of it where the tensor is updated as a whole."""
    start: int
    stop: int
    rate_factor: float
    """On the learning rate."""

    @property
    def place(self) -> slice:
        """In the vectors of parameters and gradients."""
        return slice(self.start, self.stop)


class OptimizerState(Mapping[str, Array]):
    """The vectors that an optimiser keeps, by name, in the order in which they are hashed, saved and compared.

    Args:
        name: of the optimiser.
        layout: of the parameters.
        layouts: a name for each vector, and what lies where in it.
        dtype: of the parameters.
    """

    def __init__(self, name: str, layout: Layout, layouts: Mapping[str, Layout], dtype: Any = np.float32) -> None:
        self.name, self.layout, self.layouts = name, layout, dict(layouts)
        self._vectors = {key: np.zeros(length(kept), dtype) for key, kept in self.layouts.items()}
        self._starts = {key: {tensor.name: tensor.start for tensor in kept} for key, kept in self.layouts.items()}

    @property
    def around(self) -> tuple[str, ...]:
        """The vectors that stand around the optimiser's own."""
        return tuple(key for key in self._vectors if key in AROUND)

    def views(self, vector: str) -> dict[str, Array]:
        """What one vector holds of each parameter that it knows, by the parameter's name."""
        return {
            tensor.name: self._vectors[vector][tensor.part].reshape(tensor.shape) for tensor in self.layouts[vector]
        }

    def of(self, vector: str, part: Part) -> Array:
        """What one vector holds of one part, as it lies there."""
        shift = self._starts[vector][part.first.name] - part.first.start
        return self._vectors[vector][part.start + shift : part.stop + shift]

    def of_tensor(self, vector: str, tensor: Tensor, size: int) -> Array:
        """What one vector holds of one tensor: so many numbers."""
        start = self._starts[vector].get(tensor.name, 0)
        return self._vectors[vector][start : start + size]

    def __getitem__(self, vector: str) -> Array:
        return self._vectors[vector]

    def __iter__(self) -> Iterator[str]:
        return iter(self._vectors)

    def __len__(self) -> int:
        return len(self._vectors)

    def __repr__(self) -> str:
        return f"OptimizerState({self.name}: {', '.join(f'{key} {len(vector):,}' for key, vector in self.items())})"
