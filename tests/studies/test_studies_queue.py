"""The queue alone: who trains what, who was killed, and a journal that nobody can leave locked or half written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mini_bert.training.ownership import Owner, this_process

pytestmark = pytest.mark.reference  # optuna

_KILLED_WITH_THE_LOCK = """
import os, signal, sys
from pathlib import Path
from mini_bert.studies.queue import Queue
queue = Queue(Path(sys.argv[1]), "q")
queue.add({"key": "a"})
os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)  # the record is written, the lock still held
queue.add({"key": "b"})
"""


@pytest.fixture
def opened(tmp_path):
    from mini_bert.studies.queue import Queue

    return lambda: Queue(tmp_path / "queue.log", "q")


def test_each_trial_is_taken_once(opened):
    queue, other = opened(), opened()
    for key in "abc":
        queue.add({"key": key})
    first, second = queue.take(), other.take()
    assert (first.user_attrs["job"], second.user_attrs["job"]) == ({"key": "a"}, {"key": "b"})
    assert [job["key"] for job in other.waiting()] == ["c"]
    assert other.running()[os.getpid()]["key"] in "ab"
    queue.finish(first, 1.0)
    assert other.take().user_attrs["job"]["key"] == "c"
    assert queue.take() is None
    assert queue.take_back_stale() == []  # we are alive
    assert queue.waiting() == []
    assert queue.over() == 1


def test_an_interrupted_trial_waits_anew(opened):
    from mini_bert.studies.queue import MOST_ATTEMPTS

    queue = opened()
    queue.add({"key": "a"})
    for _ in range(MOST_ATTEMPTS + 1):
        queue.leave(queue.take())
        assert (queue.running(), queue.waiting()) == ({}, [])
        assert queue.take_back_stale() == []
        assert queue.waiting() == [{"key": "a"}]


def test_a_trial_that_kills_its_process_is_given_up(opened):
    from mini_bert.studies.queue import MOST_ATTEMPTS

    queue = opened()
    queue.add({"key": "a"})
    gone = Owner(this_process().host, this_process().pid, 1)._asdict()
    for _ in range(MOST_ATTEMPTS - 1):
        queue.take().set_user_attr("owner", gone)
        assert queue.take_back_stale() == []
        assert queue.waiting() == [{"key": "a"}]
    queue.take().set_user_attr("owner", gone)
    assert queue.take_back_stale() == [{"key": "a"}]
    assert (queue.waiting(), queue.running()) == ([], {})


def test_a_trial_is_left_to_who_is_just_taking_it(opened, monkeypatch):
    """Between being given a trial and saying whose it is, a process is neither waited for nor gone."""
    from mini_bert.studies import queue as module

    queue = opened()
    queue.add({"key": "a"})
    queue.add({"key": "b"})
    queue._study.ask()  # the first half of `take`
    assert (queue.running(), [job["key"] for job in queue.waiting()]) == ({}, ["b"])
    assert queue.keys() == {"a", "b"}
    assert queue.take_back_stale(forgive=True) == []
    assert [job["key"] for job in queue.waiting()] == ["b"]
    monkeypatch.setattr(module, "SECONDS_TO_TAKE", 0.0)  # it was killed there
    assert queue.take_back_stale(forgive=True) == []
    assert [job["key"] for job in queue.waiting()] == ["b", "a"]


@pytest.mark.parametrize(("status", "trained_anew"), [("done", []), ("failed", ["a"]), (None, ["a"])])
def test_what_ends_while_a_study_begins_is_not_trained_again(opened, tmp_path, status, trained_anew):
    """Its process outlived a killed study: the study has read what is found, and then the trial leaves the queue."""
    from mini_bert.studies import worker
    from mini_bert.studies.dispatch import _let_wait

    queue = opened()
    job = {"key": "a", "piece": "plain", "seed": 0, "settings": {}, "begins": "nothing", "steps": 3}
    queue.add(job)
    taken = queue.take()
    if status is not None:
        worker.written(tmp_path, worker.ended(job, status, ""))
    queue.finish(taken, 1.0)
    _let_wait(SimpleNamespace(folder=tmp_path), queue, {"a": job})
    assert [one["key"] for one in queue.waiting()] == trained_anew
    assert worker.has_ended_well(tmp_path, "a") == (status == "done")


def test_a_new_start_gives_every_trial_another_chance(opened):
    queue = opened()
    queue.add({"key": "a"})
    gone = Owner(this_process().host, this_process().pid, 1)._asdict()
    for _ in range(7):
        queue.take().set_user_attr("owner", gone)
        assert queue.take_back_stale(forgive=True) == []
        assert queue.waiting() == [{"key": "a"}]


def test_a_kill_does_not_change_what_a_search_draws_next(opened, tmp_path):
    from mini_bert.studies.queue import Queue

    def drawn(queue, *, killed=()):
        rates = []
        while len(rates) < 4:
            trial = queue.take(most=4)
            rate = trial.suggest_float("rate", 0.0, 1.0)
            if trial.number in killed:
                trial.set_user_attr("owner", Owner(this_process().host, this_process().pid, 1)._asdict())
                queue.take_back_stale()
            else:
                rates.append(rate)
                queue.finish(trial, rate)
        assert queue.take(most=4) is None
        return rates

    alone = drawn(opened())
    assert len(set(alone)) == 4
    assert drawn(Queue(tmp_path / "killed.log", "q"), killed={0, 3, 4}) == alone


def test_a_process_that_is_killed_with_the_lock_holds_nobody_up(opened, tmp_path):
    command = [sys.executable, "-c", _KILLED_WITH_THE_LOCK, str(tmp_path / "queue.log")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == ["queue.log"]  # Optuna's own lock would be there
    queue = opened()
    queue.add({"key": "c"})
    assert [job["key"] for job in queue.waiting()] == ["a", "b", "c"]


@pytest.mark.parametrize("length", [1, 50, 9000])
def test_half_a_record_is_removed(opened, tmp_path, length):
    opened().add({"key": "a"})
    with (tmp_path / "queue.log").open("ab") as journal:
        journal.write(b'{"op_code": 4, "x": "'.ljust(length, b"y"))
    opened().add({"key": "b"})
    assert [job["key"] for job in opened().waiting()] == ["a", "b"]
