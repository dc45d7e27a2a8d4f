"""Ranks without MPI: threads that pretend to be processes prove the exchange; what each finds out is known to all."""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from mini_bert.batch import Batch, Question
from mini_bert.config.schema import ModelConfig
from mini_bert.errors import ConfigError, DataError, MissingExtraError, RanksDifferError
from mini_bert.model.bert import MiniBERT
from mini_bert.ops.contract import Array
from mini_bert.random_streams import RandomStream
from mini_bert.training.parallel import ShardPool, ShardSum
from mini_bert.training.ranks import ALONE, Ranks, exit_code, portable, ranks_of_this_job, told_size

T = TypeVar("T")
ROWS = 9
DROPOUT = RandomStream(seed=3, name="dropout", step=2)


class World:
    """What the pretended processes share."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.barrier = threading.Barrier(size, timeout=30)
        self.said: list[bytes] = [b""] * size
        self.mail: dict[tuple[int, int], list[Array]] = {}


class Member(Ranks):
    """One pretended process."""

    def __init__(self, world: World, rank: int) -> None:
        self.world, self.rank, self.size = world, rank, world.size

    def gather(self, value: T) -> list[T]:
        self.world.said[self.rank] = pickle.dumps(value)
        self.wait()
        values = [pickle.loads(said) for said in self.world.said]
        self.wait()
        return values

    def broadcast(self, value: T) -> T:
        return self.gather(value)[0]

    def wait(self) -> None:
        self.world.barrier.wait()

    def exchange(self, outgoing: Iterable[tuple[int, Array]], incoming: Iterable[tuple[int, Array]]) -> None:
        for rank, array in outgoing:
            assert array.flags.c_contiguous
            self.world.mail.setdefault((self.rank, rank), []).append(array.copy())
        self.wait()
        for rank, array in incoming:
            sent = self.world.mail[rank, self.rank].pop(0)
            assert (sent.shape, sent.dtype) == (array.shape, array.dtype)
            array[...] = sent
        assert not any(self.world.mail.get((rank, self.rank)) for rank in range(self.size))
        self.wait()


def on_ranks(size: int, function: Callable[[Ranks], T]) -> list[T | BaseException]:
    """What `function` returns or raises on each of `size` ranks."""
    world = World(size)
    outcomes: list[Any] = [None] * size

    def live(rank: int) -> None:
        try:
            outcomes[rank] = function(Member(world, rank))
        except BaseException as error:
            outcomes[rank] = error
            if isinstance(error, threading.BrokenBarrierError | AssertionError):
                world.barrier.abort()

    threads = [threading.Thread(target=live, args=(rank,)) for rank in range(size)]
    with threadpool_limits(1, user_api="blas"):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return outcomes


def model_of(dtype: Any = np.float32) -> MiniBERT:
    config = ModelConfig(
        vocab_size=32,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=8,
    )
    model = MiniBERT(config, dtype)
    model.parameters.buffer[...] += 0.2 * np.random.default_rng(0).normal(size=model.parameters.buffer.size)
    return model


def batch_of() -> Batch:
    rng = np.random.default_rng(1)
    positions = np.sort(rng.choice(ROWS * 8, 20, replace=False))
    return Batch(rng.integers(5, 32, (ROWS, 8)), None, None, positions, rng.integers(5, 32, 20))


def copied(total: ShardSum) -> tuple[float, int, int, bytes]:
    return total.loss_sum, total.n_masked, total.n_correct, total.gradient.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("ranks", "shards"), [(r, s) for r in range(1, 6) for s in range(r, 10)])
def test_number_of_ranks_changes_no_bit(ranks: int, shards: int, dtype: Any) -> None:
    model, batch = model_of(dtype), batch_of()
    with ShardPool(1, shards) as pool:
        expected = copied(pool.gradients(model, batch, DROPOUT))

    def train(mine: Ranks) -> list[tuple[float, int, int, bytes]]:
        with ShardPool(2, shards, in_flight=1 + mine.rank % 2, ranks=mine) as pool:
            return [copied(pool.gradients(model, batch, DROPOUT)) for _ in range(2)]

    assert on_ranks(ranks, train) == [[expected, expected]] * ranks


@pytest.mark.parametrize(("ranks", "shards"), [(2, 2), (2, 3), (3, 7), (5, 9)])
def test_number_of_ranks_changes_no_bit_of_several_tasks(ranks: int, shards: int) -> None:
    config = ModelConfig(**model_of().config.model_dump() | {"heads": ("mlm", "nsp", "std")})
    model, batch = MiniBERT(config), batch_of()
    shown = np.setdiff1d(np.arange(ROWS * 8), batch.masked_positions)
    asked = (("next_sentence", np.arange(0, ROWS * 8, 16)), ("token_order", shown))
    batch = batch._replace(
        questions=(
            Question("masked_lm", batch.masked_positions, batch.target_ids, 1.0, 20),
            *(Question(task, positions, positions % 2, 0.5, positions.size) for task, positions in asked),
        )
    )

    def everything(total: ShardSum) -> tuple[Any, ...]:
        return copied(total), total.tasks, total.total_loss

    with ShardPool(1, shards) as pool:
        expected = everything(pool.gradients(model, batch, DROPOUT))

    def train(mine: Ranks) -> tuple[Any, ...]:
        with ShardPool(2, shards, ranks=mine) as pool:
            return everything(pool.gradients(model, batch, DROPOUT))

    assert on_ranks(ranks, train) == [expected] * ranks


def test_an_error_on_one_rank_is_raised_on_all_and_the_next_batch_is_right() -> None:
    class Failing(MiniBERT):
        def mlm_loss_and_gradients(self, batch: Batch, *arguments: Any, **named: Any) -> tuple[float, int]:
            if batch.first_row == 6:  # shard 2 of 3
                raise FloatingPointError("overflow in row 6")
            return super().mlm_loss_and_gradients(batch, *arguments, **named)

    model, batch = model_of(), batch_of()
    failing = Failing.from_parameters(model.parameters)
    with ShardPool(1, 3) as pool:
        expected = copied(pool.gradients(model, batch))

    def train(mine: Ranks) -> tuple[str, object]:
        with ShardPool(1, 3, ranks=mine) as pool:
            with pytest.raises(FloatingPointError) as caught:
                pool.gradients(failing, batch)
            return str(caught.value), copied(pool.gradients(model, batch))

    assert on_ranks(3, train) == [("overflow in row 6", expected)] * 3


def test_one_rank_without_memory_takes_fewer_shards_at_once_and_the_bits_stay() -> None:
    model, batch = model_of(), batch_of()
    with ShardPool(1, 8) as pool:
        expected = copied(pool.gradients(model, batch))

    def train(mine: Ranks) -> tuple[int, object]:
        class Poor(MiniBERT):
            def mlm_loss_and_gradients(self, *arguments: Any, **named: Any) -> tuple[float, int]:
                if mine.rank == 1 and pool.in_flight > 1:
                    raise MemoryError
                return super().mlm_loss_and_gradients(*arguments, **named)

        with ShardPool(2, 8, ranks=mine) as pool:
            total = copied(pool.gradients(Poor.from_parameters(model.parameters), batch))
            return pool.in_flight, total

    assert on_ranks(2, train) == [(2, expected), (1, expected)]


def test_no_memory_on_one_rank_is_known_to_all() -> None:
    def train(mine: Ranks) -> None:
        class Poor(MiniBERT):
            def mlm_loss_and_gradients(self, *arguments: Any, **named: Any) -> tuple[float, int]:
                if mine.rank == 1:
                    raise MemoryError("none on this host")
                return super().mlm_loss_and_gradients(*arguments, **named)

        with ShardPool(2, 8, ranks=mine) as pool:
            pool.gradients(Poor.from_parameters(model_of().parameters), batch_of())

    outcomes = on_ranks(2, train)
    assert [(type(error), str(error)) for error in outcomes] == [(MemoryError, "none on this host")] * 2


def test_more_ranks_than_shards_are_refused_on_all() -> None:
    outcomes = on_ranks(5, lambda mine: ShardPool(1, 4, ranks=mine))
    assert all(isinstance(error, ConfigError) for error in outcomes)
    assert str(outcomes[3]).startswith("train.shards: got 4 on 5 ranks; expected at least one shard a rank.")


def test_threads_are_at_most_the_shards_of_the_rank() -> None:
    assert on_ranks(3, lambda mine: ShardPool(8, 7, ranks=mine).threads) == [2, 2, 3]


def test_what_the_first_rank_does_alone_all_get() -> None:
    asked: list[int] = []

    def act(mine: Ranks) -> str:
        return mine.on_first(lambda: asked.append(mine.rank) or "done")

    assert on_ranks(3, act) == ["done"] * 3
    assert asked == [0]


def test_what_fails_on_the_first_rank_fails_on_all() -> None:
    class Odd(Exception):
        """Cannot be sent: it needs two arguments."""

        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} and {two}")

    def act(mine: Ranks, error: Exception) -> None:
        def fail() -> None:
            raise error

        mine.on_first(fail)

    full = DataError("disk", got="full", expected="room")
    outcomes = on_ranks(2, lambda mine: act(mine, full))
    assert [str(error) for error in outcomes] == [str(full)] * 2
    assert outcomes[0] is full
    assert all(isinstance(error, DataError) for error in outcomes)
    odd = on_ranks(2, lambda mine: act(mine, Odd(1, 2)))
    assert isinstance(odd[0], Odd)
    assert repr(odd[1]) == "RuntimeError('Odd: 1 and 2')"


def test_differing_ranks_are_named_on_all() -> None:
    outcomes = on_ranks(4, lambda mine: mine.same("the parameters after step 7", "abd"[mine.rank % 2 + mine.rank // 3]))
    for error in outcomes:
        assert isinstance(error, RanksDifferError)
        assert str(error).startswith(
            "the parameters after step 7: got a on rank 0, 2; b on rank 1; d on rank 3; expected the same on all ranks."
        )
    assert on_ranks(3, lambda mine: mine.same("data", "x")) == [None] * 3


def test_alone() -> None:
    assert (ALONE.rank, ALONE.size, ALONE.first, ALONE.first_here) == (0, 1, True, True)
    assert ALONE.broadcast("x") == "x"
    assert ALONE.gather("x") == ["x"]
    assert ALONE.cores >= 1
    ALONE.same("x", "y")
    ALONE.wait()
    array = np.ones(3)
    ALONE.broadcast_array(array)
    assert array.tolist() == [1, 1, 1]
    with pytest.raises(DataError), ALONE.together():
        ALONE.on_first(lambda: (_ for _ in ()).throw(DataError("x", got=1, expected="2")))
    with pytest.raises(SystemExit) as ended:
        ALONE.abort(3)
    assert ended.value.code == 3


@pytest.mark.parametrize(
    ("environment", "size"),
    [
        ({}, 1),
        ({"PMI_SIZE": "4", "PMI_RANK": "1"}, 4),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, 2),
        ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_NTASKS": "8"}, 8),
        ({"SLURM_NTASKS": "8"}, 1),  # sbatch alone starts one process
        ({"PMI_SIZE": "4", "SLURM_STEP_NUM_TASKS": "2"}, 4),  # hydra's proxies, one a host, are srun's
        ({"PMI_SIZE": "many"}, 1),
    ],
    ids=str,
)
def test_the_launcher_is_known_by_its_environment(environment: dict[str, str], size: int) -> None:
    assert told_size(environment) == size
    if size == 1:
        assert ranks_of_this_job(environment) is ALONE


def test_several_processes_without_mpi4py_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(MissingExtraError, match=r"4 processes that cannot talk .* pip install \"mini-bert\[mpi\]\""):
        ranks_of_this_job({"PMI_SIZE": "4"})


def test_exit_codes() -> None:
    errors = [DataError("x", got=1, expected="2"), ValueError(), KeyboardInterrupt(), SystemExit(7), SystemExit()]
    assert [exit_code(error) for error in [*errors, SystemExit("words")]] == [2, 1, 130, 7, 0, 1]


def test_errors_travel() -> None:
    error = DataError("x", got=1, expected="2")
    assert portable(error) is error
    assert str(portable(ValueError(threading.Lock()))).startswith("ValueError: <unlocked")
