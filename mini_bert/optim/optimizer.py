"""Which optimisers there are, what each keeps from step to step, and one update of all parameters by any of them.

An update is cut into parts that do not hear of each other: stretches of the vectors where each element is on its own,
which are cut anywhere, and whole tensors where they are not. So threads share the work; their number changes no bit.
What stands around an optimiser (lookahead, averaging) acts on the same parts, right behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from mini_bert.errors import InvalidInputError
from mini_bert.ops.contract import Array
from mini_bert.optim import adafactor, adamw, averaging, lion, lookahead, muon, sgd
from mini_bert.optim.layout import Layout, Tensor, check_update, length, packed
from mini_bert.optim.state import AROUND, OptimizerState, Part, Settings
from mini_bert.optim.tensor_rates import rate_factors

__all__ = ["OPTIMIZERS", "OptimizerState", "Settings", "fresh", "shares", "update", "vector_layouts", "zeros"]


class Update(NamedTuple):
    """What an update of all parameters is made of."""

    parameters: Array
    gradients: Array
    state: OptimizerState
    settings: Settings
    step: int
    lr: float
    scale: float
    decayed: int
    """The first so many parameters are decayed."""


class Optimizer(NamedTuple):
    """An optimiser as the table knows it."""

    vectors: Callable[[Layout], dict[str, Layout]]
    """What it keeps: a name and a layout for each vector."""
    whole: Callable[[Tensor], bool]
    """Whether a tensor is updated as a whole; else each element is on its own."""
    update: Callable[[Update, Part], None]


def _adamw(u: Update, part: Part) -> None:
    adamw.update(
        u.parameters[part.place],
        u.gradients[part.place],
        adamw.State(u.state.of("m", part), u.state.of("v", part)),
        step=u.step,
        lr=u.lr * part.rate_factor,
        beta1=u.settings.beta1,
        beta2=u.settings.beta2,
        eps=u.settings.eps,
        weight_decay=u.settings.weight_decay,
        decayed=_decayed_in(part, u.decayed),
        scale=u.scale,
    )


def _sgd(u: Update, part: Part) -> None:
    sgd.update(
        u.parameters[part.place],
        u.gradients[part.place],
        sgd.State(u.state.of("m", part)),
        step=u.step,
        lr=u.lr * part.rate_factor,
        momentum=u.settings.momentum,
        nesterov=u.settings.nesterov,
        weight_decay=u.settings.weight_decay,
        decayed=_decayed_in(part, u.decayed),
        scale=u.scale,
    )


def _lion(u: Update, part: Part) -> None:
    lion.update(
        u.parameters[part.place],
        u.gradients[part.place],
        lion.State(u.state.of("m", part)),
        step=u.step,
        lr=u.lr * part.rate_factor,
        beta1=u.settings.beta1,
        beta2=u.settings.beta2,
        weight_decay=u.settings.weight_decay,
        decayed=_decayed_in(part, u.decayed),
        scale=u.scale,
    )


def _adafactor(u: Update, part: Part) -> None:
    tensor = part.first
    rows = u.state.of_tensor("rows", tensor, tensor.shape[0])
    columns = u.state.of_tensor("columns", tensor, tensor.shape[1] if len(tensor.shape) == 2 else 0)
    adafactor.update(
        u.parameters[part.place].reshape(tensor.shape),
        u.gradients[part.place].reshape(tensor.shape),
        adafactor.State(rows, columns),
        step=u.step,
        lr=u.lr * part.rate_factor,
        beta2=u.settings.beta2,
        weight_decay=u.settings.weight_decay if tensor.decay else 0.0,
        scale=u.scale,
    )


def _muon(u: Update, part: Part) -> None:
    tensor = part.first
    if not tensor.hidden_matrix:
        _adamw(u, part)
        return
    muon.update(
        u.parameters[part.place].reshape(tensor.shape),
        u.gradients[part.place].reshape(tensor.shape),
        u.state.of("m", part).reshape(tensor.shape),
        step=u.step,
        lr=u.lr * part.rate_factor,
        momentum=u.settings.momentum,
        nesterov=u.settings.nesterov,
        newton_schulz_steps=u.settings.newton_schulz_steps,
        weight_decay=u.settings.weight_decay if tensor.decay else 0.0,
        scale=u.scale,
    )


def _rows_and_columns(layout: Layout) -> dict[str, Layout]:
    """Of adafactor: a number a row and one a column of a matrix, and a vector as it is."""
    return {
        "rows": packed(tensor._replace(shape=tensor.shape[:1]) for tensor in layout),
        "columns": packed(tensor._replace(shape=tensor.shape[1:]) for tensor in layout if len(tensor.shape) == 2),
    }


def _none(tensor: Tensor) -> bool:
    return False


OPTIMIZERS: dict[str, Optimizer] = {
    "adamw": Optimizer(lambda layout: {"m": layout, "v": layout}, _none, _adamw),
    "sgd": Optimizer(lambda layout: {"m": layout}, _none, _sgd),
    "lion": Optimizer(lambda layout: {"m": layout}, _none, _lion),
    "adafactor": Optimizer(_rows_and_columns, lambda tensor: True, _adafactor),
    "muon": Optimizer(
        lambda layout: {"m": layout, "v": packed(tensor for tensor in layout if not tensor.hidden_matrix)},
        lambda tensor: tensor.hidden_matrix,
        _muon,
    ),
}
"""Every optimiser by its name in a configuration."""


def vector_layouts(layout: Layout, name: str = "adamw", around: Sequence[str] = ()) -> dict[str, Layout]:
    """Name and layout of each vector that is kept, in order; `around` adds `slow`, `average` or both.

    Raises:
        InvalidInputError: there is no such optimiser.
    """
    if name not in OPTIMIZERS:
        raise InvalidInputError("name", got=repr(name), expected=f"one of {list(OPTIMIZERS)}")
    return {**OPTIMIZERS[name].vectors(layout), **{key: layout for key in AROUND if key in around}}


def zeros(layout: Layout, dtype: Any = np.float32, name: str = "adamw", around: Sequence[str] = ()) -> OptimizerState:
    """A state of zeros, to be filled.

    Args:
        layout: of the parameters.
        dtype: theirs.
        name: of the optimiser.
        around: `slow`, `average`, both or none of them.

    Raises:
        InvalidInputError: there is no such optimiser.
    """
    return OptimizerState(name, layout, vector_layouts(layout, name, around), dtype)


def fresh(parameters: Array, layout: Layout, settings: Settings) -> OptimizerState:
    """The state before step 1: no moments; slow and averaged weights are the parameters."""
    state = zeros(layout, parameters.dtype, settings.name, settings.around)
    for vector in settings.around:
        state[vector][...] = parameters
    return state


def update(
    parameters: Array,
    gradients: Array,
    state: OptimizerState,
    settings: Settings,
    *,
    step: int,
    lr: float,
    scale: float = 1.0,
    threads: int = 1,
    run: Callable[[Sequence[Callable[[], None]]], None] | None = None,
) -> None:
    """One update of all `parameters`, and of `state`, in place; `gradients` stay as they are.

    Args:
        parameters: [N] the vector θ.
        gradients: [N] the vector g before scaling.
        state: of the optimiser that `settings` name.
        settings: of the optimiser and of what stands around it.
        step: counted from 1.
        lr: η.
        scale: factor on the gradients, from clipping and averaging.
        threads: how many parts there shall be of what can be cut anywhere; the result is the same for any number.
        run: runs all of some independent functions; None: one after the other.

    Raises:
        InvalidInputError: lengths differ, `step` is not positive, or the state is another optimiser's.
    """
    check_update(parameters, step, gradients=gradients)
    if length(state.layout) != parameters.size:
        raise InvalidInputError("parameters", got=f"{parameters.size}", expected=f"{length(state.layout)}")
    if (state.name, state.around) != (settings.name, settings.around):
        got = " with ".join((state.name, *state.around))
        raise InvalidInputError("state", got=got, expected=" with ".join((settings.name, *settings.around)))
    decayed = sum(tensor.stop - tensor.start for tensor in state.layout if tensor.decay)
    whole = Update(parameters, gradients, state, settings, step, lr, scale, decayed)
    jobs = [_job(whole, parts) for parts in shares(state.layout, settings, threads)]
    if run is None:
        for job in jobs:
            job()
    else:
        run(jobs)


def shares(layout: Layout, settings: Settings, threads: int = 1) -> list[list[Part]]:
    """All parts, in lists that are one thread's work each: whole tensors first, the largest of them before all."""
    factors = rate_factors(layout, settings.layer_decay, settings.position_lr_factor)
    is_whole = OPTIMIZERS[settings.name].whole
    stretches: list[Part] = []
    tensors: list[Part] = []
    for tensor in layout:
        part = Part(tensor, tensor.start, tensor.stop, factors[tensor.name])
        before = stretches[-1] if stretches else None
        if is_whole(tensor):
            tensors.append(part)
        elif before is not None and (before.stop, before.rate_factor) == (part.start, part.rate_factor):
            stretches[-1] = before._replace(stop=part.stop)
        else:
            stretches.append(part)
    tensors.sort(key=lambda part: part.start - part.stop)
    cut = _cut(stretches, threads)
    return [[part] for part in tensors] + [share for share in cut if share]


def _cut(stretches: list[Part], threads: int) -> list[list[Part]]:
    """For each thread its equal share of all stretches together."""
    size = sum(part.stop - part.start for part in stretches)
    cuts: list[list[Part]] = []
    for thread in range(threads):
        low, high = size * thread // threads, size * (thread + 1) // threads
        share: list[Part] = []
        for part in stretches:
            start, stop = part.start + max(low, 0), min(part.start + high, part.stop)
            if start < stop:
                share.append(part._replace(start=start, stop=stop))
            low, high = low - (part.stop - part.start), high - (part.stop - part.start)
        cuts.append(share)
    return cuts


def _job(whole: Update, parts: list[Part]) -> Callable[[], None]:
    settings, state = whole.settings, whole.state

    def work() -> None:
        for part in parts:
            OPTIMIZERS[settings.name].update(whole, part)
            theta = whole.parameters[part.place]
            if settings.lookahead is not None:
                slow, alpha = state.of("slow", part), settings.lookahead_alpha
                lookahead.update(theta, slow, step=whole.step, every=settings.lookahead, alpha=alpha)
            if settings.ema_decay is not None:
                averaging.update(theta, state.of("average", part), step=whole.step, decay=settings.ema_decay)

    return work


def _decayed_in(part: Part, decayed: int) -> int:
    """How many elements of a part are decayed, of which the first `decayed` of all are."""
    return min(max(decayed - part.start, 0), part.stop - part.start)
