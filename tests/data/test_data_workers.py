"""Child processes: results in order, errors as themselves, nothing left running."""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys

import pytest

from mini_bert.data.workers import ordered_map
from mini_bert.errors import DataError


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_order(workers: int) -> None:
    numbers = [3000, 2, 2500, 1, 0, 2000, 5] * 3
    assert list(ordered_map(math.factorial, numbers, workers)) == [math.factorial(n) for n in numbers]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_arrives_as_itself(workers: int) -> None:
    results = ordered_map(math.factorial, [3, -1, 4], workers)
    assert next(results) == 6
    with pytest.raises(ValueError, match="negative"):
        list(results)


def test_an_error_in_the_batches_stops_the_workers() -> None:
    def batches():
        yield 3
        raise DataError("corpus", got="a fault", expected="none")

    with pytest.raises(DataError, match="a fault"):
        list(ordered_map(math.factorial, batches(), 2))


def test_a_worker_that_dies_is_reported() -> None:
    with pytest.raises(DataError, match=r"ended \(exit code 3\)"):
        list(ordered_map(os._exit, [3], 1))


def test_what_a_function_prints_does_not_disturb() -> None:
    assert list(ordered_map(print, ["noise"] * 3, 1)) == [None] * 3


def test_a_worker_whose_asker_was_killed_ends_quietly() -> None:
    command = [sys.executable, "-c", "from mini_bert.data.workers import serve; serve()"]
    asked = pickle.dumps(bytes) + pickle.dumps(1 << 20)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as worker:
        worker.stdout.close()
        worker.stdin.write(asked)
        worker.stdin.close()
        assert worker.stderr.read() == b""
