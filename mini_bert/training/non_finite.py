"""Where did a number stop being finite? The batch is repeated, shard by shard, and every intermediate looked at.

Only after a step whose loss or gradient was not finite: ordinary steps pay nothing. The repetition is serial and its
order fixed, so that each rank of an MPI job finds the same place. NumPy raises at an overflow or an invalid operation
as it does in training; where that happens before an intermediate with such a number is complete, the shard is repeated
once more without raising, as far as the intermediate that was being computed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from traceback import walk_stack, walk_tb
from types import FrameType
from typing import Any, Literal, NamedTuple

import numpy as np

import mini_bert
from mini_bert.batch import Batch
from mini_bert.model.bert import FLOAT_ERRORS, MiniBERT
from mini_bert.model.forward_pass import Pass, Reading
from mini_bert.model.heads import HEADS
from mini_bert.model.inputs import check_batch
from mini_bert.model.parameters import Parameters
from mini_bert.model.tasks import passes
from mini_bert.ops import cross_entropy
from mini_bert.ops.contract import Array
from mini_bert.optim.clipping import global_norm
from mini_bert.random_streams import RandomStream
from mini_bert.training.parallel import shard_bounds

Direction = Literal["forward", "backward", "parameter", "loss"]
Kind = Literal["NaN", "infinity", "overflow"]

_PACKAGE = Path(mini_bert.__file__).parent
_KINDS: tuple[tuple[str, Kind], ...] = (("overflow", "overflow"), ("divide by zero", "infinity"), ("invalid", "NaN"))
"""NumPy's words for a float error, and what the operation's result would have been."""


class NonFinite(NamedTuple):
    """The first place in a step where a number was not finite."""

    name: str
    """Of an intermediate (`layer_1.attention.scores`), of a parameter (`W_Q_0`), or `loss`."""
    direction: Direction
    """Backward: it is the gradient of what `name` says."""
    kind: Kind
    """Overflow: finite numbers whose result is too large; NaN, infinity: what was found."""
    op: str = ""
    """The file, within the package, of the operation that made it: `ops/softmax.py`; empty: unknown."""
    shard: int | None = None
    """None: not within a shard."""
    rows: tuple[int, ...] = ()
    """Rows of the batch in which it was found; empty where it belongs to no row."""
    again: bool = True
    """Whether it was there when the batch was repeated."""

    def __str__(self) -> str:
        where = {"backward": f"the gradient of {self.name}", "parameter": f"the parameter {self.name}"}
        said = [f"{self.kind} in {where.get(self.direction, self.name)}"]
        if self.op:
            said.append(f"made by {self.op}")
        if self.shard is not None:
            said.append(f"shard {self.shard}")
        if self.rows:
            shown = ", ".join(map(str, self.rows[:4])) + (f" and {len(self.rows) - 4} more" * (len(self.rows) > 4))
            said.append(f"row{'s' * (len(self.rows) > 1)} {shown} of the batch")
        if not self.again:
            said.append("not there when the batch was repeated")
        return ", ".join(said) + "."


def find_non_finite(
    model: MiniBERT,
    batch: Batch,
    dropout: RandomStream | None,
    shards: int,
    *,
    gradient: Array | None = None,
) -> NonFinite:
    """Repeat a step that was not finite, and name the first place: parameters, then each shard forward and backward.

    Args:
        model: as it was in that step; it is not changed.
        batch: the whole batch.
        dropout: the step's random numbers.
        shards: how the batch is cut.
        gradient: the sum over the shards, where it was reached: finite parts may have a sum, or a norm, that is not.

    Raises:
        InvalidInputError: the batch does not fit the model.
    """
    if name := _first_bad(model.parameters):
        return NonFinite(name, "parameter", _kind(model.parameters[name]))
    gradients = Parameters(model.config, model.dtype)
    for shard, (start, stop) in enumerate(shard_bounds(batch.input_ids.shape[0], shards)):
        if start < stop and (found := _in_shard(model, batch.rows(start, stop), dropout, gradients)) is not None:
            return found._replace(shard=shard)
    if gradient is None:
        return NonFinite("loss", "loss", "NaN", again=False)
    total = Parameters(model.config, buffer=gradient)
    if name := _first_bad(total):
        overflow = not np.isnan(total[name]).any()
        return NonFinite(name, "backward", "overflow" if overflow else "NaN", "training/parallel.py", again=overflow)
    if not np.isfinite(global_norm(gradient)):
        largest = {name: float(np.abs(view).max(initial=0)) for name, view in total.items()}
        return NonFinite(max(largest, key=largest.__getitem__), "backward", "overflow", "optim/clipping.py")
    return NonFinite("loss", "loss", "NaN", again=False)


class _Reached(Exception):
    """Thrown out of a pass by its watch."""

    def __init__(self, found: NonFinite) -> None:
        self.found = found


class _Watch:
    """The tap of a repeated pass, which leaves it at the first value that is not finite, or at tap number `until`.

    As a profiler it sees what the functions in ops/ return between two taps, and so which of them was the first.
    """

    def __init__(self, batch: Batch, gradients: Parameters, until: int | None = None) -> None:
        self.seen = 0
        self._batch, self._gradients, self._until = batch, gradients, until
        self._op, self._last = "", ""

    def forward(self, name: str, value: Array) -> Array:
        return self._look(name, "forward", value)

    def backward(self, name: str, value: Array) -> Array:
        value = self._look(name, "backward", value)
        self._look_at_gradients(at_tap=False)
        return value

    def loss(self, value: Array) -> None:
        self._look("loss", "loss", value)

    def end(self) -> None:
        """Behind the last tap there are gradients of parameters still."""
        self._look_at_gradients(at_tap=True)

    def profile(self, frame: FrameType, event: str, returned: Any) -> None:
        if event == "return" and not self._op and (op := _operation(frame)).startswith("ops/"):
            self._op = "" if _all_finite(returned) else op

    def _look(self, name: str, direction: Direction, value: Array) -> Array:
        finite = np.isfinite(value)
        if self._until == self.seen or (self._until is None and not finite.all()):
            kind, op = _kind(value), self._op or _first_operation(frame for frame, _ in walk_stack(None))
            raise _Reached(NonFinite(name, direction, kind, op, rows=_rows(name, ~finite, self._batch)))
        self.seen, self._last = self.seen + 1, name
        return value

    def _look_at_gradients(self, at_tap: bool) -> None:
        name = _first_bad(self._gradients) if self._until is None or at_tap else None
        if name is not None:
            op = self._op or _first_operation(frame for frame, _ in walk_stack(None))
            raise _Reached(NonFinite(name, "backward", _kind(self._gradients[name]), op))
        if at_tap and self._until is not None:
            raise _Reached(NonFinite(self._last, "backward", "overflow"))


def _in_shard(model: MiniBERT, batch: Batch, dropout: RandomStream | None, gradients: Parameters) -> NonFinite | None:
    """The first place in one shard; None: all is finite."""
    watch = _Watch(batch, gradients)
    try:
        with np.errstate(**FLOAT_ERRORS):
            _repeat(model, batch, dropout, gradients, watch)
    except _Reached as reached:
        return reached.found
    except FloatingPointError as error:
        kind = next((kind for words, kind in _KINDS if words in str(error)), "NaN")
        op = _first_operation(frame for frame, _ in reversed(list(walk_tb(error.__traceback__))))
    else:
        return None
    try:
        with np.errstate(all="ignore"):
            _repeat(model, batch, dropout, gradients, _Watch(batch, gradients, until=watch.seen))
    except _Reached as reached:
        return reached.found._replace(kind=kind, op=op)
    raise AssertionError("the repeated pass has fewer taps than it had")


def _repeat(model: MiniBERT, batch: Batch, dropout: RandomStream | None, gradients: Parameters, watch: _Watch) -> None:
    """`MiniBERT.mlm_loss_and_gradients`, or that of all tasks, with a tap on both ways."""
    gradients.buffer[...] = 0
    if batch.questions:
        before = sys.getprofile()
        sys.setprofile(watch.profile)
        try:
            passes(model, batch, gradients, dropout, watch.forward, watch.backward)
            watch.end()
        finally:
            sys.setprofile(before)
        return
    batch = check_batch(model.config, batch, targets=True)
    positions, targets = batch.masked_positions, batch.target_ids
    assert positions is not None
    assert targets is not None
    if not targets.size:
        return
    B, T = batch.input_ids.shape
    run = Pass(B, T, batch.attention_mask, dropout, batch.first_row, watch.forward)
    before = sys.getprofile()
    sys.setprofile(watch.profile)
    try:
        hidden, encoder = model.encode_forward(batch.input_ids, batch.token_type_ids, run, Reading.of(positions, B, T))
        logits, head = HEADS["mlm"][0](hidden, model.parameters, model.config, run)
        loss, saved = cross_entropy.forward(logits, targets=targets)
        watch.loss(loss)
        (dlogits,) = cross_entropy.backward(np.ones((), model.dtype), saved)
        run = run._replace(tap=watch.backward)
        dx = HEADS["mlm"][1](dlogits, head, model.parameters, gradients, model.config, run)
        model.encode_backward(dx, encoder, gradients, watch.backward)
        watch.end()
    finally:
        sys.setprofile(before)


def _first_bad(parameters: Parameters) -> str | None:
    if np.isfinite(parameters.buffer).all():
        return None
    return next(name for name, view in parameters.items() if not np.isfinite(view).all())


def _kind(value: Array) -> Kind:
    return "NaN" if np.isnan(value).any() else "infinity"


def _rows(name: str, bad: Array, batch: Batch) -> tuple[int, ...]:
    """Numbers, in the whole batch, of the rows where `bad` is true: values are [B, …], or [M, H] behind the reading."""
    B, T = batch.input_ids.shape
    if bad.ndim > 2 and bad.shape[0] == B:
        rows = np.flatnonzero(bad.reshape(B, -1).any(axis=1))
    elif bad.ndim == 2 and (read := _read(batch)).size == bad.shape[0] and name != "embeddings.position":
        rows = np.unique(read[bad.any(axis=1)] // T)
    else:
        return ()
    return tuple(int(row) + batch.first_row for row in rows)


def _read(batch: Batch) -> Array:
    """The positions that the loss reads."""
    if batch.questions:
        return np.unique(np.concatenate([question.positions for question in batch.questions]))
    return np.empty(0, np.int64) if batch.masked_positions is None else batch.masked_positions


def _all_finite(returned: Any) -> bool:
    """Whether an array, or every array directly in a tuple, is finite."""
    values = returned if isinstance(returned, tuple) else (returned,)
    return all(np.isfinite(v).all() for v in values if isinstance(v, np.ndarray) and v.dtype.kind in "fc")


def _first_operation(frames: Iterable[FrameType]) -> str:
    """The first file of ops/ or model/ among `frames`, within the package; empty: none."""
    return next((op for frame in frames if (op := _operation(frame))), "")


def _operation(frame: FrameType) -> str:
    """The file in which a function of ops/ or model/ runs; empty: another one, or one that only passes values on."""
    path = Path(frame.f_code.co_filename)
    if path.parent not in (_PACKAGE / "ops", _PACKAGE / "model") or path.name == "contract.py":
        return ""
    return path.relative_to(_PACKAGE).as_posix()
