"""A function over many batches of text, in other processes, with the results in order.

The workers are plain child processes that read pickles from a pipe: not `multiprocessing`, which runs the caller's
script again in each child unless it is guarded, and not `fork`, which is unsafe beside BLAS threads. A result depends
on its batch alone, so the number of workers changes the time and nothing else.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

from mini_bert.errors import DataError

Batch = TypeVar("Batch")
Result = TypeVar("Result")

_SERVE = "import sys, pickle; sys.path[:] = {path!r}; from mini_bert.data.workers import serve; serve()"


def ordered_map(function: Callable[[Batch], Result], batches: Iterable[Batch], workers: int) -> Iterator[Result]:
    """`map(function, batches)` by `workers` processes; with none, in this one. `function` must pickle.

    At most two batches a worker are under way, so memory does not grow with the number of batches.
    """
    if workers < 1:
        yield from map(function, batches)
        return
    idle: SimpleQueue[_Worker] = SimpleQueue()
    started = [_Worker(function) for _ in range(workers)]
    for worker in started:
        idle.put(worker)

    def call(batch: Batch) -> Result:
        worker = idle.get()
        try:
            return worker.call(batch)  # type: ignore[no-any-return]
        finally:
            idle.put(worker)

    pending: deque[Future[Result]] = deque()
    try:
        with ThreadPoolExecutor(workers) as pool:
            for batch in batches:
                pending.append(pool.submit(call, batch))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
    finally:
        for worker in started:
            worker.close()


class _Worker:
    """A child process that applies one function."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        command = [sys.executable, "-c", _SERVE.format(path=sys.path)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        pickle.dump(function, self._stdin, pickle.HIGHEST_PROTOCOL)

    @property
    def _stdin(self) -> Any:
        return self._process.stdin

    def call(self, batch: Any) -> Any:
        try:
            pickle.dump(batch, self._stdin, pickle.HIGHEST_PROTOCOL)
            self._stdin.flush()
            succeeded, result = pickle.load(self._process.stdout)  # type: ignore[arg-type]
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=1)
            code = self._process.returncode
            raise DataError(
                "reading the texts",
                got=f"a worker process that ended (exit code {code})",
                expected="a result",
                advice="It may have run out of memory. What is done is kept: start again, and it goes on.",
            ) from error
        if not succeeded:
            raise result
        return result

    def close(self) -> None:
        with suppress(OSError):
            self._stdin.close()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def serve() -> None:
    """What a child process runs: read the function, then answer one batch after the other until the pipe is closed."""
    stdin, stdout = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    sys.stdout = sys.stderr
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C on a terminal reaches all: who asked ends this by the pipe
    function = pickle.load(stdin)
    while True:
        try:
            batch = pickle.load(stdin)
        except (EOFError, KeyboardInterrupt):
            return
        try:
            answer = (True, function(batch))
        except KeyboardInterrupt:
            return
        except Exception as error:
            answer = (False, error)
        try:
            pickle.dump(answer, stdout, pickle.HIGHEST_PROTOCOL)
            stdout.flush()
        except BrokenPipeError:  # who asked was killed
            os._exit(1)
