"""R15: do threads and ranks change no bit, and does a job that has lost a rank end at once, and go on elsewhere?

    python -m mini_bert.verification.reliability.ranks

measures 2 ranks with a thread each beside 1 rank with 2 threads, in turn, and prints the medians as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from mini_bert.errors import MissingExtraError
from mini_bert.random_streams import RandomStream
from mini_bert.verification.reliability.promise import Experiment, Outcome, Scale
from mini_bert.verification.reliability.subject import STEPS, Subject

SECONDS_TO_END = 5.0
"""Promised between the death of a rank and the end of its job."""
SLOWER = 1.10
"""Promised: a step of 2 ranks with a thread each takes at most so many times a step of 1 rank with 2 threads."""


class Way(NamedTuple):
    """One way to do the same work."""

    ranks: int = 0
    """0: one process, without a launcher."""
    threads: int = 1
    in_flight: int | str = "auto"

    def __str__(self) -> str:
        at_once = "" if self.in_flight == "auto" else f", {self.in_flight} in flight"
        return f"{self.ranks or 'no'} rank(s), {self.threads} thread(s){at_once}"

    @property
    def launcher(self) -> list[str]:
        """Words before the command."""
        return [mpiexec(), "-n", str(self.ranks)] if self.ranks else []


THREADS = (Way(threads=2), Way(threads=4), Way(threads=4, in_flight=1), Way(threads=4, in_flight=2))
RANKS = (Way(2), Way(3), Way(4), Way(1, 2), Way(2, 2), Way(2, 2, in_flight=1))


def mpiexec() -> str:
    """The launcher that is installed beside this Python, or on the PATH.

    Raises:
        MissingExtraError: there is none.
    """
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        raise MissingExtraError(
            "mpiexec", got="not installed", expected="the extra `mpi`", advice='pip install "mini-bert[mpi]"'
        )
    return found


def _small_on_threads(scale: Scale, folder: Path) -> Outcome:
    return _same_end(scale, folder, THREADS if not scale.quick else THREADS[:1])


def _small_on_ranks(scale: Scale, folder: Path) -> Outcome:
    return _same_end(scale, folder, RANKS if not scale.quick else RANKS[:2])


def _same_end(scale: Scale, folder: Path, ways: Sequence[Way]) -> Outcome:
    """The small model, 40 steps, with dropout, in shards that are a power of two and that are not."""
    outcome = Outcome()
    cut = (4, 5) if not scale.quick else (5,)
    for number, (shards, way) in enumerate((shards, way) for shards in cut for way in (Way(), *ways)):
        subject = Subject(
            folder / f"{number}",
            train__shards=shards,
            train__verify_ranks_every=10,
            model__hidden_dropout_prob=0.1,
            model__attention_probs_dropout_prob=0.1,
        )
        ended = subject.train(launcher=way.launcher, run__threads=way.threads, train__in_flight=way.in_flight)
        if way == Way():
            expected = ended.result
        done = ended.code == 0 and ended.result.get("step") == STEPS
        if way != Way() or not done:
            outcome.count(
                done and ended.result == expected,
                f"{shards} shards, {way}: exit code {ended.code}, {ended.result.get('sha256')} instead of "
                f"{expected.get('sha256')} {ended.errors[-300:]}",
            )
        scale.told(number + 1, len(cut) * (len(ways) + 1))
    return outcome


def _default_on_threads(scale: Scale, folder: Path) -> Outcome:
    return _same_bits(scale, THREADS[:2] if not scale.quick else THREADS[:1])


def _default_on_ranks(scale: Scale, folder: Path) -> Outcome:
    return _same_bits(scale, RANKS[:5] if not scale.quick else RANKS[:1])


def _same_bits(scale: Scale, ways: Sequence[Way]) -> Outcome:
    outcome, steps = Outcome(), scale.of(full=40, quick=2)
    expected = workload(Way(), steps)["sha256"]
    for number, way in enumerate(ways):
        got = workload(way, steps)["sha256"]
        outcome.count(got == expected, f"{way}: {got} instead of {expected} after {steps} steps")
        scale.told(number + 1, len(ways))
    return outcome


def workload(way: Way, steps: int) -> dict[str, Any]:
    """What `rank_workload` prints, or `sha256: "failed …"`."""
    order = json.dumps({"steps": steps, "threads": way.threads})
    done = subprocess.run(
        [*way.launcher, sys.executable, "-m", "mini_bert.verification.reliability.rank_workload", order],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode:
        return {"sha256": f"failed with exit code {done.returncode}: {done.stderr[-300:]}", "seconds": []}
    return dict(json.loads(done.stdout))


def _throughput(scale: Scale, folder: Path) -> Outcome:
    """Steps of two ranks and of two threads in turn; the first two steps of a process do not count."""
    outcome, rounds, steps = Outcome(), scale.of(full=8, quick=1), scale.of(full=12, quick=3)
    ways = {"1_rank_2_threads": Way(1, 2), "2_ranks_1_thread": Way(2, 1)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        results = {name: workload(way, steps) for name, way in ways.items()}
        ends = {result["sha256"] for result in results.values()}
        outcome.count(len(ends) == 1, f"round {number}: {ends}")
        for name, result in results.items():
            seconds[name].extend(result["seconds"][2:])
        scale.told(number + 1, rounds)
    if all(seconds.values()):
        medians = {name: median(values) for name, values in seconds.items()}
        ratio = medians["2_ranks_1_thread"] / medians["1_rank_2_threads"]
        outcome.measured = {f"seconds_a_step_{name}": round(value, 4) for name, value in medians.items()}
        outcome.measured["ratio"] = round(ratio, 3)
        if not scale.quick:  # a few steps beside other work say nothing
            outcome.count(ratio <= SLOWER, f"2 ranks take {ratio:.3f} times as long as 2 threads")
    return outcome


def _killed_rank(scale: Scale, folder: Path) -> Outcome:
    """SIGKILL to one of 2 to 4 ranks, somewhere in the run; then on with another number of ranks."""
    outcome, trials, steps = Outcome(), scale.of(full=12, quick=1), 3 * STEPS
    whole = Subject(folder / "whole", train__steps=steps).train()
    if whole.code:
        outcome.count(False, f"the run that nobody stops: exit code {whole.code} {whole.errors[-300:]}")
        return outcome
    drawn = RandomStream(15, "killed rank").uniform(trials, 4)
    slowest = 0.0
    for trial, (how_many, who, when, how_many_then) in enumerate(drawn):
        ranks = 2 + int(3 * how_many)
        others = [Way(), *(Way(number) for number in (1, 2, 3, 4) if number != ranks)]
        then = others[int(len(others) * how_many_then)]
        subject = Subject(folder / f"{trial}", train__steps=steps)
        code, seconds = kill_rank(subject, Way(ranks), int(ranks * who), at=1 + int(0.5 * steps * when))
        left = rank_processes(subject)
        ended = subject.train(resume="auto", launcher=then.launcher)
        slowest = max(slowest, seconds)
        story = f"rank {int(ranks * who)} of {ranks} killed, resumed on {then}"
        outcome.count(
            code != 0 and seconds <= SECONDS_TO_END and not left,
            f"{story}: exit code {code} after {seconds:.1f} s, {len(left)} rank(s) left",
        )
        outcome.count(
            ended.code == 0 and ended.result == whole.result,
            f"{story}: ended with {ended.code}, {ended.result.get('sha256')} instead of {whole.result.get('sha256')} "
            f"{ended.errors[-300:]}",
        )
        scale.told(trial + 1, trials)
    outcome.measured = {"seconds_to_end_at_most": round(slowest, 2)}
    return outcome


def kill_rank(subject: Subject, way: Way, rank: int, at: int, launcher: Sequence[str] = ()) -> tuple[int, float]:
    """Start a job, and send SIGKILL to a rank when step `at` stands in the log; the job's exit code, and seconds."""
    log = subject.run / "metrics.jsonl"
    with subprocess.Popen(
        [*(launcher or way.launcher), *subject.command(run__threads=way.threads)],
        env=subject.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as job:
        while job.poll() is None and (not log.exists() or log.read_bytes().count(b'"kind": "train"') < at):
            time.sleep(0.005)
        victim = rank_processes(subject).get(rank)
        begin = time.monotonic()
        if victim is not None:
            os.kill(victim, signal.SIGKILL)
        try:
            job.wait(60)
        except subprocess.TimeoutExpired:
            job.terminate()
        return job.wait(), time.monotonic() - begin


def rank_processes(subject: Subject) -> dict[int, int]:
    """The processes that train in the subject's folder, by rank."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words, variables = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:  # gone in between
            continue
        ranks = [entry[9:] for entry in variables.split(b"\0") if entry.startswith(b"PMI_RANK=")]
        if ranks and os.fsencode(subject.run.parent) in words:
            found[int(ranks[0])] = int(process.name)
    return found


def _two_hosts(scale: Scale, folder: Path) -> Outcome:
    from mini_bert.verification.reliability.two_hosts import two_hosts

    return two_hosts(scale, folder)


_NEEDS = ("mpi4py",)
_SAME = "0 differing bytes in model and optimiser, the same losses in the log"
EXPERIMENTS: tuple[Experiment, ...] = (
    Experiment("R15", "threads 1, 2, 4 and in flight 1, 2: the small model, 40 steps", _SAME, _small_on_threads),
    Experiment("R15", "ranks 1, 2, 3, 4: the small model, 40 steps", _SAME, _small_on_ranks, _NEEDS),
    Experiment(
        "R15",
        "threads 1, 2, 4: the default model, 40 steps",
        "0 differing bytes in model and optimiser",
        _default_on_threads,
    ),
    Experiment(
        "R15",
        "ranks 1, 2, 3, 4: the default model, 40 steps",
        "0 differing bytes in model and optimiser",
        _default_on_ranks,
        _NEEDS,
    ),
    Experiment(
        "R15",
        "SIGKILL to one rank, resume on another number of ranks",
        "the job ends within 5 s, non-zero; the resumed run ends with the same bits",
        _killed_rank,
        _NEEDS,
    ),
    Experiment(
        "R15",
        "two hosts (network namespaces of one machine)",
        "the same bits as on one host; a rank killed on the other host ends the job within 5 s, non-zero",
        _two_hosts,
        _NEEDS,
    ),
    Experiment(
        "R15",
        "2 ranks × 1 thread beside 1 rank × 2 threads: the default model, 64×64",
        "a step takes at most 1.10 times as long",
        _throughput,
        _NEEDS,
    ),
)


def main() -> int:
    """Measure the throughput; 1 if the promise is not kept."""
    with tempfile.TemporaryDirectory() as folder:
        outcome = _throughput(Scale(), Path(folder))
    print(json.dumps({**outcome.measured, "failures": outcome.failures}, indent=1))
    return int(not outcome.kept)


if __name__ == "__main__":
    sys.exit(main())
