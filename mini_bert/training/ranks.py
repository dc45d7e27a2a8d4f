"""Which processes train together, and how do they tell each other things?

A job that `mpirun` started has several ranks, each a process with a number. What is said here, all of them say: every
method but `abort` is called by all ranks, in one order, or none of them comes back from it. A rank that waits sleeps,
so that waiting takes no core from a rank that works.

mpi4py is loaded only where the environment says that there is more than one rank.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from mini_bert.errors import ConfigError, MiniBertError, MissingExtraError, RanksDifferError
from mini_bert.machine import available_cores
from mini_bert.ops.contract import Array

T = TypeVar("T")

SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
"""Where MPICH's and Intel's launcher, Open MPI's, and SLURM's `srun` write how many processes they have started."""

PATIENCE = 2.0
"""Seconds that a rank which fails waits for the others to fail with it, before it ends the job."""

_LONGEST_PAUSE = 1e-3
"""Seconds between two looks at whether the others have come."""


class Ranks:
    """The ranks of a job of one process, which talks to nobody."""

    rank: int = 0
    """The number of this process, from 0."""
    size: int = 1
    """How many there are."""
    first_here: bool = True
    """Whether no rank of a lower number runs on this host: who prepares what a host needs once."""

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which reads, writes and speaks for all."""
        return self.rank == 0

    @property
    def cores(self) -> int:
        """Cores for this rank: those it may run on, shared out among the ranks of the host that may run there too."""
        return available_cores()

    def broadcast(self, value: T) -> T:
        """The value of rank 0 (small, and such that it can be pickled)."""
        return value

    def broadcast_array(self, array: Array) -> None:
        """Overwrite a contiguous array with that of rank 0; shape and dtype must be the same on all ranks."""

    def gather(self, value: T) -> list[T]:
        """Everyone's values in the order of ranks (small, and such that they can be pickled)."""
        return [value]

    def wait(self) -> None:
        """Go on when all ranks have come here."""

    def exchange(self, outgoing: Iterable[tuple[int, Array]], incoming: Iterable[tuple[int, Array]]) -> None:
        """Send contiguous arrays to ranks, and fill others with what ranks send.

        What one rank sends to another arrives in the order in which both list it.
        """

    def abort(self, code: int) -> None:
        """End all ranks now, with this exit code."""
        raise SystemExit(code)

    def on_first(self, function: Callable[[], T]) -> T:
        """What `function` returns on rank 0, which alone calls it; what it raises there, all ranks raise."""
        if self.size == 1:
            return function()
        value: Any = None
        error: Exception | None = None
        if self.first:
            try:
                value = function()
            except Exception as raised:
                error = raised
        value, failure = self.broadcast((value, error and portable(error)))
        if failure is not None:
            raise error or failure
        return value

    def same(self, argument: str, value: str) -> None:
        """Compare what should be equal on all ranks.

        Raises:
            RanksDifferError: it is not; on every rank, with the numbers of the ranks that hold the same.
        """
        values = self.gather(value)
        if len(set(values)) > 1:
            holders = {each: [str(rank) for rank, held in enumerate(values) if held == each] for each in values}
            raise RanksDifferError(
                argument,
                got="; ".join(f"{held} on rank {', '.join(ranks)}" for held, ranks in holders.items()),
                expected="the same on all ranks",
                advice="Ranks compute the same only on processors of one type, with one version of NumPy and of its "
                "BLAS. If these are alike, a computer has made an error: resume from the last checkpoint.",
            )

    @contextmanager
    def together(self) -> Iterator[None]:
        """Around all that a job does: its ranks end all in order, or none is left waiting.

        An error that all ranks raise is raised on; where a lower rank says the same, as SystemExit without words. An
        error of some ranks alone is printed and ends the job, `PATIENCE` seconds later.
        """
        yield


ALONE = Ranks()
"""The one process of an ordinary run."""


class MPIRanks(Ranks):
    """The ranks of MPI's world. To be made once a process."""

    def __init__(self) -> None:
        from mpi4py import MPI

        self._mpi = MPI
        self._world = MPI.COMM_WORLD.Dup()
        self._endings = MPI.COMM_WORLD.Dup()
        self.rank, self.size = self._world.rank, self._world.size
        host = self._world.Split_type(MPI.COMM_TYPE_SHARED)
        self.first_here = host.rank == 0
        usable = _usable_cores()
        self._cores = max(1, len(usable) // sum(bool(usable & others) for others in host.allgather(usable)))
        host.Free()

    @property
    def cores(self) -> int:
        """Cores for this rank: those it may run on, shared out among the ranks of the host that may run there too."""
        return self._cores

    def broadcast(self, value: T) -> T:
        """The value of rank 0 (small, and such that it can be pickled)."""
        self.wait()
        return self._world.bcast(value)

    def broadcast_array(self, array: Array) -> None:
        """Overwrite a contiguous array with that of rank 0; shape and dtype must be the same on all ranks."""
        self.wait()
        self._world.Bcast(array)

    def gather(self, value: T) -> list[T]:
        """Everyone's values in the order of ranks (small, and such that they can be pickled)."""
        self.wait()
        return self._world.allgather(value)

    def wait(self) -> None:
        """Go on when all ranks have come here."""
        self._arrive(self._world)

    def exchange(self, outgoing: Iterable[tuple[int, Array]], incoming: Iterable[tuple[int, Array]]) -> None:
        """Send contiguous arrays to ranks, and fill others with what ranks send."""
        requests = [self._world.Irecv(array, rank) for rank, array in incoming]
        requests += [self._world.Isend(array, rank) for rank, array in outgoing]
        self._mpi.Request.Waitall(requests)

    def abort(self, code: int) -> None:
        """End all ranks now, with this exit code."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._mpi.COMM_WORLD.Abort(code)
        os._exit(code)  # MPI asks the launcher, and may come back before it is heard

    @contextmanager
    def together(self) -> Iterator[None]:
        """Around all that a job does: its ranks end all in order, or none is left waiting."""
        try:
            yield
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
            everyone = self._ended(said, PATIENCE)
            if everyone is None:
                self._give_up(error)
            elif said in everyone[: self.rank]:
                raise SystemExit(exit_code(error)) from None
            raise
        else:
            self._ended("", None)

    def _ended(self, said: str, seconds: float | None) -> list[str] | None:
        """What each rank says at its end; None if some have not come to it within `seconds`."""
        return self._endings.allgather(said) if self._arrive(self._endings, seconds) else None

    def _arrive(self, communicator: Any, seconds: float | None = None) -> bool:
        """Sleep until all ranks have come here; False if some have not within `seconds`."""
        request, begin = communicator.Ibarrier(), time.monotonic()
        while not request.Test():
            waited = time.monotonic() - begin
            if seconds is not None and waited > seconds:
                return False
            time.sleep(min(_LONGEST_PAUSE, waited / 8))
        return True

    def _give_up(self, error: BaseException) -> None:
        if isinstance(error, MiniBertError):
            print(f"Rank {self.rank} of {self.size}: {error}", file=sys.stderr)
        elif not isinstance(error, SystemExit):
            trace = "".join(traceback.format_exception(error))  # said at once: of two parts the launcher may lose one
            print(f"Rank {self.rank} of {self.size}:\n{trace}", end="", file=sys.stderr)
        self.abort(exit_code(error))


def ranks_of_this_job(environment: Mapping[str, str] | None = None) -> Ranks:
    """The ranks that a launcher has started this process among; ALONE where none has.

    Raises:
        MissingExtraError: there are several, and no mpi4py: each would train by itself.
        ConfigError: the launcher and mpi4py's MPI do not know each other.
    """
    told = told_size(os.environ if environment is None else environment)
    if told == 1:
        return ALONE
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: mpi4py is there, the MPI library is not
        raise MissingExtraError(
            "mpi4py",
            got=f"{told} processes that cannot talk to each other ({error})",
            expected="the extra `mpi`",
            advice='Install it: pip install "mini-bert[mpi]". Or start one process.',
        ) from error
    if told != MPI.COMM_WORLD.size:
        raise ConfigError(
            "mpirun",
            got=f"{told} processes, of which {MPI.Get_library_version().split()[0]} sees {MPI.COMM_WORLD.size}",
            expected="the launcher of the MPI library that mpi4py uses",
            advice="Use the mpirun that was installed beside mpi4py, or SLURM's srun --mpi=pmi2.",
        )
    return MPIRanks()


def told_size(environment: Mapping[str, str]) -> int:
    """How many processes a launcher says that it has started; 1 without a launcher.

    >>> told_size({"OMPI_COMM_WORLD_SIZE": "4"}), told_size({})
    (4, 1)
    """
    sizes = [environment[name] for name in SIZES if environment.get(name, "").isdecimal()]
    return int(sizes[0]) if sizes else 1


def portable(error: Exception) -> Exception:
    """The error, or its words where it cannot be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def exit_code(error: BaseException) -> int:
    """What a process that ends with this error returns: 2 for our errors, 130 for Ctrl-C, 1 for bugs."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return 2 if isinstance(error, MiniBertError) else 130 if isinstance(error, KeyboardInterrupt) else 1


def _usable_cores() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(available_cores()))
