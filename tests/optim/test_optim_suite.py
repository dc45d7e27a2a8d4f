"""What every optimiser in the table must be: pure in gradients, in place, of one dtype, the same for any threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mini_bert.errors import InvalidInputError
from mini_bert.ops.contract import BLOCK
from mini_bert.optim import optimizer
from mini_bert.optim.layout import Layout, Tensor, length, packed
from mini_bert.optim.optimizer import OPTIMIZERS, OptimizerState, Settings

every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)
every_kind = pytest.mark.parametrize(
    "settings",
    [
        *(Settings(name=name) for name in OPTIMIZERS),
        *(Settings(name=name, layer_decay=0.5, lookahead=2, ema_decay=0.9) for name in OPTIMIZERS),
        Settings(name="sgd", nesterov=False, momentum=0.5),
        Settings(name="muon", nesterov=False, newton_schulz_steps=3),
    ],
    ids=lambda s: "-".join(str(value) for value, usual in zip(s, Settings(), strict=True) if value != usual) or s.name,
)


def test_every_file_with_an_update_is_in_the_table() -> None:
    files = Path(optimizer.__file__).parent.glob("*.py")
    with_update = {file.stem for file in files if "\ndef update(" in file.read_text(encoding="utf-8")}
    assert with_update == {*OPTIMIZERS, "lookahead", "averaging", "optimizer"}


def begun(layout: Layout, settings: Settings, dtype: Any = np.float64) -> tuple[Any, Any, OptimizerState]:
    """Parameters, gradients of very unlike sizes, and the first state."""
    rng = np.random.default_rng(3)
    theta = rng.normal(size=length(layout)).astype(dtype)
    g = (rng.normal(size=theta.size) * 10.0 ** rng.integers(-3, 2, theta.size)).astype(dtype)
    return theta, g, optimizer.fresh(theta, layout, settings)


def stepped(
    layout: Layout, settings: Settings, steps: int = 3, dtype: Any = np.float64, **options: Any
) -> tuple[Any, OptimizerState]:
    theta, g, state = begun(layout, settings, dtype)
    for step in range(1, steps + 1):
        optimizer.update(theta, g * step, state, settings, step=step, lr=0.01, **options)
    return theta, state


@every_kind
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_is_changed_in_place_in_its_dtype_and_gradients_are_not(layout: Layout, settings: Settings, dtype: Any):
    theta, g, state = begun(layout, settings, dtype)
    before, gradients, vectors = theta.copy(), g.copy(), dict(state)
    for step in (1, 2, 3):
        optimizer.update(theta, g, state, settings, step=step, lr=0.01, scale=0.5)
    assert theta.dtype == dtype
    assert np.isfinite(theta).all()
    assert g.tobytes() == gradients.tobytes()
    assert (theta != before).mean() > 0.99
    for key, vector in state.items():
        assert vector is vectors[key]
        assert vector.dtype == dtype
        assert np.isfinite(vector).all()
        assert vector.any()


@every_kind
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_parts_change_no_bit(layout: Layout, settings: Settings, threads: int) -> None:
    """The number of parts, and the order in which threads take them up."""
    whole, state = stepped(layout, settings, dtype=np.float32)
    orders = [lambda jobs: [job() for job in reversed(jobs)]]
    with ThreadPoolExecutor(threads) as pool:
        orders.append(lambda jobs: list(pool.map(lambda job: job(), jobs)))
        for run in orders:
            theta, other = stepped(layout, settings, dtype=np.float32, threads=threads, run=run)
            assert theta.tobytes() == whole.tobytes()
            assert {key: vector.tobytes() for key, vector in other.items()} == {
                key: vector.tobytes() for key, vector in state.items()
            }


@every_optimizer
@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
@pytest.mark.parametrize("threads", [1, 2, 5, 200])
def test_parts_cover_every_element_once(layout: Layout, name: str, layer_decay: float, threads: int) -> None:
    shares = optimizer.shares(layout, Settings(name=name, layer_decay=layer_decay), threads)
    parts = sorted((part for share in shares for part in share), key=lambda part: part.start)
    assert [0, *(part.stop for part in parts)] == [*(part.start for part in parts), length(layout)]
    assert all(part.start < part.stop for part in parts)
    sizes = [
        sum(part.stop - part.start for part in share) for share in shares if not OPTIMIZERS[name].whole(share[0].first)
    ]
    assert not sizes or max(sizes) - min(sizes) <= 1


@every_optimizer
def test_a_gradient_of_zeros_moves_nothing(layout: Layout, name: str) -> None:
    settings = Settings(name=name, weight_decay=0.0)
    theta, g, state = begun(layout, settings, np.float32)
    before = theta.copy()
    optimizer.update(theta, np.zeros_like(g), state, settings, step=1, lr=0.1)
    assert theta.tobytes() == before.tobytes()


@every_optimizer
@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_decay_acts_on_decayed_tensors_alone_and_scales_with_the_rate(
    layout: Layout, name: str, layer_decay: float
) -> None:
    settings = Settings(name=name, weight_decay=0.5, layer_decay=layer_decay)
    theta, g, state = begun(layout, settings)
    before = theta.copy()
    optimizer.update(theta, np.zeros_like(g), state, settings, step=1, lr=0.1, threads=3)
    for tensor in layout:
        rate = 0.1 * layer_decay ** (3 - tensor.depth)
        expected = before[tensor.part] * (1 - 0.5 * rate * tensor.decay)
        np.testing.assert_allclose(theta[tensor.part], expected, rtol=1e-14, err_msg=tensor.name)


@every_optimizer
def test_an_update_goes_down(layout: Layout, name: str) -> None:
    settings = Settings(name=name, weight_decay=0.0)
    theta, g, state = begun(layout, settings)
    before = theta.copy()
    optimizer.update(theta, g, state, settings, step=1, lr=1e-3)
    for tensor in layout:
        assert (theta - before)[tensor.part] @ g[tensor.part] < 0, tensor.name


@every_optimizer
def test_scale_is_a_factor_on_the_gradient(layout: Layout, name: str) -> None:
    settings = Settings(name=name)
    (theta, g, state), (other, _, second) = begun(layout, settings), begun(layout, settings)
    for step in (1, 2):
        optimizer.update(theta, g, state, settings, step=step, lr=0.1, scale=0.25)
        optimizer.update(other, 0.25 * g, second, settings, step=step, lr=0.1)
    np.testing.assert_allclose(theta, other, rtol=1e-12)
    for key in state:
        np.testing.assert_allclose(state[key], second[key], rtol=1e-12)


@every_optimizer
def test_layers_further_down_have_lower_rates(layout: Layout, name: str) -> None:
    """Each tensor moves as it would under a rate of its own (TENSORRATE.1)."""
    theta, _ = stepped(layout, Settings(name=name, layer_decay=0.5), steps=1)
    start, g, _ = begun(layout, Settings(name=name))
    for tensor in layout:
        alone = start.copy()
        state = optimizer.fresh(alone, layout, Settings(name=name))
        optimizer.update(alone, g, state, Settings(name=name), step=1, lr=0.01 * 0.5 ** (3 - tensor.depth))
        np.testing.assert_allclose(theta[tensor.part], alone[tensor.part], rtol=1e-14, err_msg=tensor.name)


@every_optimizer
def test_positions_have_a_rate_of_their_own(layout: Layout, name: str) -> None:
    """Alone or beside layer-wise rates, for update and decay; all other tensors move as without it (TENSORRATE.2)."""
    layout = tuple(tensor._replace(positions=tensor.name == "token_embeddings") for tensor in layout)
    theta, _ = stepped(layout, Settings(name=name, layer_decay=0.5, position_lr_factor=30.0), steps=1)
    without, _ = stepped(layout, Settings(name=name, layer_decay=0.5), steps=1)
    alone, g, _ = begun(layout, Settings(name=name))
    state = optimizer.fresh(alone, layout, Settings(name=name))
    optimizer.update(alone, g, state, Settings(name=name), step=1, lr=0.01 * 30 * 0.5**3)
    for tensor in layout:
        expected = alone if tensor.positions else without
        np.testing.assert_allclose(theta[tensor.part], expected[tensor.part], rtol=1e-14, err_msg=tensor.name)


@every_optimizer
def test_what_is_kept_lies_where_its_layout_says(layout: Layout, name: str) -> None:
    """Of a tensor the vectors hold what an update of this tensor alone makes."""
    settings = Settings(name=name, lookahead=2, ema_decay=0.9)
    _, state = stepped(layout, settings)
    theta, g, _ = begun(layout, settings)
    for tensor in layout:
        (alone,) = packed([tensor])
        small = theta[tensor.part].copy()
        kept = optimizer.fresh(small, (alone,), settings)
        for step in (1, 2, 3):
            optimizer.update(small, step * g[tensor.part], kept, settings, step=step, lr=0.01)
        for key in state:
            views, own = state.views(key), kept.views(key)
            assert (tensor.name in views) == (tensor.name in own)
            if tensor.name in views:
                assert views[tensor.name].shape == own[tensor.name].shape
                np.testing.assert_allclose(views[tensor.name], own[tensor.name], rtol=1e-12, err_msg=tensor.name)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [("adamw", 2.0), ("sgd", 1.0), ("lion", 1.0), ("adafactor", 0.08), ("muon", 1.5)],
)
def test_memory_of_a_parameter(name: str, numbers: float) -> None:
    """Of a layout half of which are hidden matrices."""
    half = packed([Tensor("W1_0", 0, 0, (100, 100), True, 1, True), Tensor("table", 0, 0, (400, 25), True, 0, False)])
    kept = optimizer.vector_layouts(half, name)
    assert sum(map(length, kept.values())) / length(half) == pytest.approx(numbers, abs=0.05)
    around = optimizer.vector_layouts(half, name, ("average", "slow"))
    assert list(around) == [*kept, "slow", "average"]
    assert around["slow"] == around["average"] == half


@every_optimizer
@pytest.mark.parametrize("size", [BLOCK - 1, 2 * BLOCK + 17])
def test_blocks_leave_nothing_out_and_do_nothing_twice(name: str, size: int) -> None:
    """A table and a vector longer than a block, beside the same ones in pieces that are shorter."""
    rows = size // 19
    tensors = packed([Tensor("t", 0, 0, (rows, 19), True, 0, False), Tensor("b", 0, 0, (size,), False, 0, False)])
    settings = Settings(name=name)
    theta, g, state = begun(tensors, settings)
    optimizer.update(theta, g, state, settings, step=1, lr=0.01)
    again, _, second = begun(tensors, settings)
    with pytest.MonkeyPatch.context() as patch:
        from mini_bert.optim import adafactor

        patch.setattr(adafactor, "BLOCK", 10**9)
        optimizer.update(again, g, second, settings, step=1, lr=0.01, threads=7)
    np.testing.assert_allclose(theta, again, rtol=1e-12, atol=1e-15)


def test_whole_tensors_come_first_and_the_largest_of_them_before_all(layout: Layout) -> None:
    shares = optimizer.shares(layout, Settings(name="muon"), threads=2)
    matrices = [share for share in shares if share[0].first.hidden_matrix]
    assert shares[: len(matrices)] == matrices
    assert len(matrices) == 6
    sizes = [share[0].stop - share[0].start for share in matrices]
    assert all(before >= after for before, after in pairwise(sizes))


@pytest.mark.parametrize("given", [Settings(name="lion"), Settings(lookahead=5), Settings(ema_decay=0.9)])
def test_a_state_of_something_else_is_refused(layout: Layout, given: Settings) -> None:
    theta, g, state = begun(layout, given)
    before = theta.copy()
    with pytest.raises(InvalidInputError, match="state"):
        optimizer.update(theta, g, state, Settings(), step=1, lr=0.1)
    assert theta.tobytes() == before.tobytes()


@every_optimizer
def test_refused(layout: Layout, name: str) -> None:
    settings = Settings(name=name)
    theta, g, state = begun(layout, settings)
    for options, argument in (({"gradients": g[1:]}, "gradients"), ({"step": 0}, "step")):
        call = {"gradients": g, "step": 1} | options
        with pytest.raises(InvalidInputError) as error:
            optimizer.update(theta, state=state, settings=settings, lr=0.1, **call)
        assert error.value.argument == argument
    with pytest.raises(InvalidInputError, match="parameters"):
        optimizer.update(theta[1:], g[1:], state, settings, step=1, lr=0.1)


def test_an_optimizer_that_does_not_exist_is_refused(layout: Layout) -> None:
    with pytest.raises(InvalidInputError, match=r"'adam'.*adamw"):
        optimizer.zeros(layout, name="adam")


def test_a_state_says_what_it_is(layout: Layout) -> None:
    state = optimizer.zeros(layout, name="muon", around=("slow",))
    assert repr(state) == "OptimizerState(muon: m 147, v 85, slow 147)"
    assert list(state) == ["m", "v", "slow"]
    assert len(state) == 3
    assert state.around == ("slow",)
