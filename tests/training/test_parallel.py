"""Shards on threads: the sum over shards is the whole, and its bits do not know how many threads there were."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from mini_bert.batch import Batch
from mini_bert.config.schema import ModelConfig
from mini_bert.errors import ConfigError, InvalidInputError
from mini_bert.model.bert import MiniBERT
from mini_bert.model.parameters import Parameters
from mini_bert.ops.contract import Array
from mini_bert.random_streams import RandomStream
from mini_bert.training import parallel
from mini_bert.training.parallel import ShardPool, shard_bounds

V, B, T = 64, 9, 12
DROPOUT = RandomStream(seed=3, name="dropout", step=2)


def model_of(dtype: Any = np.float64) -> MiniBERT:
    config = ModelConfig(
        vocab_size=V,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=20,
        max_position_embeddings=T,
    )
    model = MiniBERT(config, dtype)
    model.parameters.buffer[...] += 0.2 * np.random.default_rng(0).normal(size=model.parameters.buffer.size)
    return model


def batch_of() -> Batch:
    """Unequal numbers of masked positions; rows 4 and 5, which are shard 2 of 4, have none."""
    rng = np.random.default_rng(1)
    ids = rng.integers(5, V, (B, T))
    mask = np.arange(T) < rng.integers(6, T + 1, B)[:, None]
    counts = [5, 1, 2, 1, 0, 0, 3, 4, 1]
    positions = np.concatenate([b * T + np.sort(rng.choice(6, n, replace=False)) for b, n in enumerate(counts)])
    return Batch(ids, mask, None, positions, rng.integers(5, V, positions.size), first_row=2)


def summed(model: MiniBERT, shards: int, threads: int, dropout: RandomStream | None) -> tuple[float, int, int, Array]:
    with ShardPool(threads, shards) as pool:
        total = pool.gradients(model, batch_of(), dropout)
        return total.loss_sum, total.n_masked, total.n_correct, total.gradient.copy()


def test_bounds() -> None:
    assert shard_bounds(8, 4) == [(0, 2), (2, 4), (4, 6), (6, 8)]
    assert shard_bounds(9, 4) == [(0, 2), (2, 4), (4, 6), (6, 9)]
    assert shard_bounds(3, 3) == [(0, 1), (1, 2), (2, 3)]
    for rows in range(1, 20):
        for shards in range(1, rows + 1):
            sizes = [stop - start for start, stop in shard_bounds(rows, shards)]
            assert sum(sizes) == rows
            assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("dropout", [None, DROPOUT], ids=["no dropout", "dropout"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-6)])
@pytest.mark.parametrize("shards", [2, 3, 4, 9])
def test_shards_sum_to_the_whole(shards: int, dtype: Any, tolerance: float, dropout: RandomStream | None) -> None:
    model, batch = model_of(dtype), batch_of()
    whole = Parameters(model.config, dtype)
    loss, n_masked = model.mlm_loss_and_gradients(batch, whole, dropout)
    loss_sum, masked, _, gradient = summed(model, shards, 1, dropout)
    assert masked == n_masked == 17
    assert loss_sum == pytest.approx(loss, rel=tolerance)
    assert np.linalg.norm(gradient - whole.buffer) <= tolerance * np.linalg.norm(whole.buffer)


@pytest.mark.parametrize("dropout", [None, DROPOUT], ids=["no dropout", "dropout"])
@pytest.mark.parametrize("shards", [1, 4, 5])
def test_number_of_threads_changes_no_bit(shards: int, dropout: RandomStream | None) -> None:
    model = model_of(np.float32)
    results = [summed(model, shards, threads, dropout) for threads in (1, 2, 3, 4, 4)]
    for loss_sum, n_masked, n_correct, gradient in results[1:]:
        assert (loss_sum, n_masked, n_correct) == results[0][:3]
        assert gradient.tobytes() == results[0][3].tobytes()


@pytest.mark.parametrize("shards", range(1, 8))
def test_order_of_summation_is_a_balanced_tree(shards: int) -> None:
    model, batch = model_of(np.float32), batch_of()
    losses, buffers = [], []
    with ShardPool(1, shards) as pool:
        for start, stop in shard_bounds(B, shards):
            gradients = Parameters(model.config, np.float32)
            losses.append(model.mlm_loss_and_gradients(batch.rows(start, stop), gradients)[0])
            buffers.append(gradients.buffer)
        total = pool.gradients(model, batch)
        while len(buffers) > 1:  # neighbours first; one that is left over waits
            pairs = range(0, len(buffers), 2)
            buffers = [sum(buffers[i + 1 : i + 2], buffers[i]) for i in pairs]
            losses = [sum(losses[i + 1 : i + 2], losses[i]) for i in pairs]
        assert total.gradient.tobytes() == buffers[0].tobytes()
        assert total.loss_sum == losses[0]


def test_right_predictions_are_counted() -> None:
    model, batch = model_of(), batch_of()
    best = model.mlm_logits(batch).argmax(axis=1)
    targets = np.where(np.arange(17) % 3 == 0, best, (best + 1) % V)
    with ShardPool(2, 4) as pool:
        assert pool.gradients(model, batch._replace(target_ids=targets)).n_correct == 6


def test_a_pool_forgets_the_batch_before() -> None:
    model, batch = model_of(np.float32), batch_of()
    first = summed(model, 4, 2, DROPOUT)
    with ShardPool(2, 4) as pool:
        pool.gradients(model, batch._replace(input_ids=batch.input_ids[::-1]))
        again = pool.gradients(model, batch, DROPOUT)
        assert again.gradient.tobytes() == first[3].tobytes()


def test_a_pool_takes_another_model() -> None:
    with ShardPool(2, 2) as pool:
        pool.gradients(model_of(), batch_of())
        small = MiniBERT(model_of().config.model_copy(update={"num_hidden_layers": 1}))
        assert pool.gradients(small, batch_of()).gradient.size == small.parameters.buffer.size


def test_no_masked_position_anywhere() -> None:
    batch = batch_of()._replace(masked_positions=np.empty(0, np.int64), target_ids=np.empty(0, np.int64))
    with ShardPool(2, 4) as pool:
        loss_sum, n_masked, n_correct, gradient = pool.gradients(model_of(), batch)[:4]
    assert (loss_sum, n_masked, n_correct) == (0.0, 0, 0)
    assert not gradient.any()


def test_errors_of_a_shard_reach_the_caller() -> None:
    batch = batch_of()
    ids = batch.input_ids.copy()
    ids[8, 0] = V
    with ShardPool(2, 4) as pool:
        with pytest.raises(InvalidInputError, match=f"input_ids: got {V}"):
            pool.gradients(model_of(), batch._replace(input_ids=ids))
        assert pool.gradients(model_of(), batch).n_masked == 17


def test_no_shard_is_still_at_work_when_another_has_failed() -> None:
    """The next call would share its buffers with it."""
    begun, release, finished = threading.Event(), threading.Event(), threading.Event()

    class Failing(MiniBERT):
        def mlm_loss_and_gradients(self, batch: Batch, *arguments: Any, **named: Any) -> tuple[float, int]:
            if batch.first_row == 2:
                begun.wait(20)
                threading.Timer(0.05, release.set).start()
                raise FloatingPointError
            begun.set()
            release.wait(20)
            finished.set()
            return super().mlm_loss_and_gradients(batch, *arguments, **named)

    with ShardPool(2, 2) as pool:
        with pytest.raises(FloatingPointError):
            pool.gradients(Failing.from_parameters(model_of().parameters), batch_of())
        assert finished.is_set()


def test_a_pool_takes_another_precision() -> None:
    with ShardPool(1, 2) as pool:
        for dtype in (np.float32, np.float64):
            assert pool.gradients(model_of(dtype), batch_of()).gradient.dtype == dtype


@pytest.mark.parametrize(("threads", "shards"), [(0, 4), (-1, 4), (2, 0), (None, 0)])
def test_refused(threads: int | None, shards: int) -> None:
    with pytest.raises(InvalidInputError, match="threads, shards"):
        ShardPool(threads, shards)


def test_no_more_threads_than_shards() -> None:
    assert ShardPool(8, 3).threads == 3
    assert ShardPool(2, 3).threads == 2
    assert 1 <= ShardPool(None, 3).threads <= 3


def test_elementwise_covers_each_element_once() -> None:
    with ShardPool(3, 4) as pool:
        for size in (1, 2, 3, 10, 101):
            counts = np.zeros(size, int)

            def add(part: slice, counts: Array = counts) -> None:
                counts[part] += 1

            pool.elementwise(add, size)
            assert np.all(counts == 1)


def test_blas_has_one_thread_inside_and_its_own_number_after() -> None:
    from threadpoolctl import threadpool_info

    def blas_threads() -> list[int]:
        return [entry["num_threads"] for entry in threadpool_info() if entry["user_api"] == "blas"]

    before = blas_threads()
    with ShardPool(2, 4):
        assert set(blas_threads()) == {1}
    assert blas_threads() == before
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("shard")]


def test_a_batch_of_fewer_rows_than_shards() -> None:
    batch = batch_of()
    rows = batch.input_ids.shape[0]
    loss, n_masked, _, gradient = summed(model_of(), 1, 1, None)
    more = summed(model_of(), rows + 3, 2, None)
    assert more[:2] == (pytest.approx(loss, rel=1e-12), n_masked)
    np.testing.assert_allclose(more[3], gradient, rtol=1e-9, atol=1e-12)


def test_threads_that_cannot_be_started_are_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = threading.Thread.start, []

    def two_at_most(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", two_at_most)
    with pytest.raises(MemoryError, match="3 threads: can't start new thread"), ShardPool(3, 4):
        pass
    assert [thread.is_alive() for thread in started] == [False, False]


# --- shards in flight -------------------------------------------------------------------------------------------------


class Watched(MiniBERT):
    """Calls `watch(shard)` before each shard of 9, and notes whose gradients went where."""

    watch: Any
    addresses: dict[int, int]

    def mlm_loss_and_gradients(self, batch: Batch, gradients: Any, *arguments: Any, **named: Any) -> tuple[float, int]:
        shard = batch.first_row - 2
        self.addresses[shard] = gradients.buffer.ctypes.data
        self.watch(shard)
        return super().mlm_loss_and_gradients(batch, gradients, *arguments, **named)


def watched(watch: Any = lambda shard: None) -> Watched:
    model = Watched.from_parameters(model_of(np.float32).parameters)
    model.watch, model.addresses = watch, {}
    return model


@pytest.mark.parametrize("shards", range(1, 10))
def test_number_of_shards_in_flight_changes_no_bit(shards: int) -> None:
    model = model_of(np.float32)
    expected = summed(model, shards, 1, DROPOUT)
    for in_flight in range(1, shards + 1):
        with ShardPool(3, shards, in_flight=in_flight) as pool:
            assert pool.in_flight == min(3, shards, in_flight)
            for _ in range(2):
                total = pool.gradients(model, batch_of(), DROPOUT)
                assert total[:3] == expected[:3]
                assert total.gradient.tobytes() == expected[3].tobytes()


@pytest.mark.parametrize(("in_flight", "buffers"), [(1, 4), (2, 5), (3, 6)])
def test_gradient_buffers_are_used_again(in_flight: int, buffers: int) -> None:
    model = watched()
    with ShardPool(3, B, in_flight=in_flight) as pool:
        for _ in range(3):
            pool.gradients(model, batch_of())
            assert len(set(model.addresses.values())) <= buffers
            assert len(model.addresses) == B


def test_no_more_shards_run_at_once_than_are_in_flight() -> None:
    inside, most, lock = 0, 0, threading.Lock()

    class Counted(MiniBERT):
        def mlm_loss_and_gradients(self, *arguments: Any, **named: Any) -> tuple[float, int]:
            nonlocal inside, most
            with lock:
                inside += 1
                most = max(most, inside)
            try:
                return super().mlm_loss_and_gradients(*arguments, **named)
            finally:
                with lock:
                    inside -= 1

    with ShardPool(4, B, in_flight=2) as pool:
        assert pool.threads == 4
        pool.gradients(Counted.from_parameters(model_of().parameters), batch_of())
    assert 1 <= most <= 2


def test_the_slowest_shard_holds_up_no_sum_for_ever() -> None:
    """The first shard ends when all others that can be computed without it are: the rest wait for a buffer."""
    release = threading.Event()

    def watch(shard: int) -> None:
        if shard == 0:
            release.wait(20)
        elif len(model.addresses) == 4:
            threading.Timer(0.02, release.set).start()

    model = watched(watch)
    with ShardPool(2, B, in_flight=2) as pool:
        total = pool.gradients(model, batch_of(), DROPOUT)
        assert total.gradient.tobytes() == summed(model_of(np.float32), B, 1, DROPOUT)[3].tobytes()


@pytest.mark.parametrize(("room", "left"), [(3, 2), (1, 1)])
def test_a_shard_without_memory_halves_what_is_in_flight(room: int, left: int) -> None:
    expected = summed(model_of(np.float32), B, 1, DROPOUT)

    def watch(shard: int) -> None:
        if shard == 5 and pool.in_flight > room:
            raise MemoryError

    with ShardPool(4, B) as pool:
        total = pool.gradients(watched(watch), batch_of(), DROPOUT)
        assert total[:3] == expected[:3]
        assert total.gradient.tobytes() == expected[3].tobytes()
        assert pool.in_flight == left
        assert pool.threads == 4


def test_without_memory_for_one_shard_the_error_goes_on() -> None:
    def watch(shard: int) -> None:
        if shard == 5:
            raise MemoryError("none")

    with ShardPool(4, B) as pool:
        with pytest.raises(MemoryError, match="none"):
            pool.gradients(watched(watch), batch_of())
        assert pool.in_flight == 1
        assert pool.gradients(watched(), batch_of()).n_masked == 17


def test_a_gradient_buffer_without_memory_counts_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, made = summed(model_of(np.float32), B, 1, None), []

    def at_most_four(*arguments: Any) -> Parameters:
        made.append(1)
        if len(made) == 5:
            raise ConfigError("model", got="5 of them", expected="4")
        return Parameters(*arguments)

    monkeypatch.setattr(parallel, "Parameters", at_most_four)
    with ShardPool(4, B, in_flight=2) as pool:
        total = pool.gradients(watched(), batch_of())
        assert pool.in_flight == 1
    assert total.gradient.tobytes() == expected[3].tobytes()


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_of_several_errors_that_of_the_lowest_shard_is_raised(threads: int) -> None:
    begun: list[int] = []

    def watch(shard: int) -> None:
        begun.append(shard)
        if shard in (2, 3, 5):
            raise FloatingPointError(f"shard {shard}")

    with ShardPool(threads, B) as pool, pytest.raises(FloatingPointError, match="shard 2"):
        pool.gradients(watched(watch), batch_of())
    assert len(begun) < B


def test_after_ctrl_c_no_shard_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, release = [], threading.Event()

    def watch(shard: int) -> None:
        begun.append(shard)
        release.wait(20)

    def interrupted(futures: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(parallel, "wait", interrupted)
    with ShardPool(2, B) as pool:
        with pytest.raises(KeyboardInterrupt):
            pool.gradients(watched(watch), batch_of())
        release.set()
    assert len(begun) <= 2


def test_refused_in_flight() -> None:
    with pytest.raises(InvalidInputError, match="in_flight"):
        ShardPool(1, 4, in_flight=0)
