"""Ranks that are processes: what they tell each other, and how they end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mini_bert.errors import ConfigError
from mini_bert.training.ranks import ranks_of_this_job
from mini_bert.verification.reliability.ranks import mpiexec
from mini_bert.verification.reliability.subject import Subject

pytestmark = pytest.mark.reference

PROGRAM = """
import os, sys
import numpy as np
from mini_bert.errors import DataError, MiniBertError, RanksDifferError
from mini_bert.training.ranks import ranks_of_this_job

def talk(ranks):
    me, size = ranks.rank, ranks.size
    assert ranks.first == (me == 0) and ranks.first_here == (me == 0) and ranks.cores >= 1
    assert ranks.gather(me * me) == [number * number for number in range(size)]
    assert ranks.broadcast({"from": me}) == {"from": 0}
    assert ranks.on_first(lambda: me) == 0
    array = np.full(100_000, me, np.float32)
    ranks.broadcast_array(array)
    assert not array.any()
    others = [rank for rank in range(size) if rank != me]
    sent = [(rank, np.full(length, 10.0 * me + rank)) for rank in others for length in (3, 200_000)]
    got = [(rank, np.empty(length)) for rank in others for length in (3, 200_000)]
    ranks.exchange(sent, got)
    assert all((array == 10 * rank + me).all() for rank, array in got)
    ranks.same("x", "equal")
    try:
        ranks.same("x", str(me))
    except RanksDifferError as error:
        assert "1 on rank 1" in str(error)
    else:
        raise AssertionError
    ranks.wait()

def shard(ranks):
    from test_ranks import batch_of, model_of
    from mini_bert.model.bert import MiniBERT
    from mini_bert.training.parallel import ShardPool

    class Failing(MiniBERT):
        def mlm_loss_and_gradients(self, batch, *arguments, **named):
            if ranks.rank == 1:
                raise FloatingPointError("overflow")
            return super().mlm_loss_and_gradients(batch, *arguments, **named)

    with ShardPool(1, 4, ranks=ranks) as pool:
        pool.gradients(Failing.from_parameters(model_of().parameters), batch_of())

def fail(error):
    raise error

ACTS = {
    "talk": talk,
    "shard": shard,
    "all": lambda ranks: fail(DataError("corpus", got="nothing", expected="text")),
    "own words": lambda ranks: fail(DataError("corpus", got=f"rank {ranks.rank}", expected="text")),
    "one": lambda ranks: fail(DataError("corpus", got="nothing", expected="text")) if ranks.rank == 1 else ranks.wait(),
    "bug": lambda ranks: 1 // (1 - ranks.rank) and ranks.wait(),
    "abort": lambda ranks: ranks.abort(7) if ranks.rank == 1 else ranks.wait(),
    "killed": lambda ranks: os.kill(os.getpid(), 9) if ranks.rank == 1 else ranks.wait(),
    "late": lambda ranks: ranks.first and fail(DataError("report", got="nothing", expected="room")),
}
try:
    ranks = ranks_of_this_job()
    with ranks.together():
        ACTS[sys.argv[1]](ranks)
        if ranks.first:
            print("done", flush=True)
except MiniBertError as error:
    print(error, file=sys.stderr, flush=True)
    sys.exit(2)
"""


def job(act: str, ranks: int, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [mpiexec(), "-n", str(ranks), sys.executable, str(program), act],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("ranks", [2, 3])
def test_what_ranks_tell_each_other(ranks: int, tmp_path: Path) -> None:
    done = job("talk", ranks, tmp_path)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_an_error_of_all_is_said_once(tmp_path: Path) -> None:
    done = job("all", 3, tmp_path)
    assert done.returncode == 2
    assert done.stderr == "corpus: got nothing; expected text.\n"


def test_errors_of_all_that_differ_are_all_said(tmp_path: Path) -> None:
    done = job("own words", 2, tmp_path)
    assert done.returncode == 2
    assert all(done.stderr.count(f"corpus: got rank {rank}; expected text.") == 1 for rank in (0, 1))


def test_an_error_of_one_rank_ends_the_job(tmp_path: Path) -> None:
    done = job("one", 2, tmp_path)
    assert done.returncode == 2
    assert "Rank 1 of 2: corpus: got nothing; expected text.\n" in done.stderr


def test_a_bug_on_one_rank_ends_the_job(tmp_path: Path) -> None:
    done = job("bug", 2, tmp_path)
    assert done.returncode == 1
    assert "Rank 1 of 2:\nTraceback" in done.stderr
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize(("act", "code"), [("abort", 7), ("killed", 9)])
def test_a_rank_that_is_gone_ends_the_job(act: str, code: int, tmp_path: Path) -> None:
    assert job(act, 3, tmp_path).returncode == code


def test_what_a_shard_of_one_rank_raises_all_raise(tmp_path: Path) -> None:
    done = job("shard", 2, tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("FloatingPointError: overflow") == 1


def test_the_first_rank_may_fail_when_the_others_are_done(tmp_path: Path) -> None:
    done = job("late", 2, tmp_path)
    assert (done.returncode, done.stderr) == (2, "report: got nothing; expected room.\n")


def test_a_launcher_that_mpi_does_not_know_is_refused() -> None:
    with pytest.raises(ConfigError, match="mpirun: got 2 processes, of which MPICH sees 1"):
        ranks_of_this_job({"OMPI_COMM_WORLD_SIZE": "2"})


def test_only_the_first_rank_needs_the_run_folder(tmp_path: Path) -> None:
    """As on another host: the second rank has a cache of its own, and a run folder that is not there."""
    here, there = Subject(tmp_path / "here"), Subject(tmp_path / "there")
    whole = Subject(tmp_path / "whole").train()
    corpus = {"data__corpus": here.settings["data.corpus"]}
    command = [
        *(mpiexec(), "-n", "1", *here.command()),
        *(":", "-env", "MINI_BERT_CACHE", there.environment["MINI_BERT_CACHE"]),
        *("-n", "1", *there.command(**corpus)),
    ]
    done = subprocess.run(command, env=here.environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert whole.result["sha256"] in done.stdout
    assert here.run.is_dir()
    assert not there.run.exists()
    assert Path(there.environment["MINI_BERT_CACHE"]).is_dir()
