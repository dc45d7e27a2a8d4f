"""Can two processes train in one run folder? The second is refused, and told who the first is. (R22)"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from mini_bert.errors import RunInUseError
from mini_bert.training.ownership import LOCK_NAME, Owner, RunLock, this_process
from mini_bert.verification.reliability.promise import Experiment, Outcome, Scale
from mini_bert.verification.reliability.subject import Subject

_RIVAL = """
import os, sys
from pathlib import Path
from mini_bert.errors import RunInUseError
from mini_bert.training.ownership import RunLock
run, rounds = Path(sys.argv[1]), int(sys.argv[2])
held = refused = 0
print("ready", flush=True)
sys.stdin.readline()
for number in range(rounds):
    try:
        with RunLock(run):
            inside = os.open(run / "inside", os.O_CREAT | os.O_EXCL)  # fails where another one is inside
            os.close(inside)
            os.unlink(run / "inside")
            held += 1
    except RunInUseError:
        refused += 1
print(held, refused)
"""


def second_trainer(scale: Scale, folder: Path) -> Outcome:
    """Start a training where one is at work; stop, freeze and kill the first, and start again."""
    outcome = Outcome()
    end = Subject(folder, run__name="whole").train().result
    trials = scale.of(full=5, quick=1)
    for trial in range(trials):
        run = Subject(folder, run__name=f"shared-{trial}", train__save_every=2)
        first = run.start()
        with first:
            while first.poll() is None and not (run.run / "latest").exists():
                time.sleep(0.002)
            first.send_signal(signal.SIGSTOP)  # a process that hangs still owns its run
            for resume in ("auto", None):
                second = run.train(resume=resume)
                who = f"process {first.pid} on host {socket.gethostname()}"
                refused = second.code == 2 and "RunInUseError" in second.errors and who in second.errors
                outcome.count(refused, f"trial {trial}: code {second.code}, {second.errors[-300:]!r}")
            first.kill()
            first.communicate()
        last = run.train(resume="auto")
        same = (last.result.get("sha256"), last.result.get("losses")) == (end["sha256"], end["losses"])
        outcome.count(same, f"trial {trial}: the lock of a killed process holds, or another end: {last.errors[-300:]}")
        outcome.count(not (run.run / LOCK_NAME).exists(), f"trial {trial}: a lock is left")
        scale.told(trial + 1, trials)
    return outcome


def crowd(scale: Scale, folder: Path) -> Outcome:
    """Many processes ask for one lock again and again: never two are inside, and none asks in vain for ever."""
    outcome, rounds = Outcome(), scale.of(full=500, quick=30)
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").touch()
    command = [sys.executable, "-c", _RIVAL, str(folder), str(rounds)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    rivals = [subprocess.Popen(command, text=True, **pipes) for _ in range(scale.of(full=6, quick=3))]
    for rival in rivals:
        assert rival.stdout is not None
        rival.stdout.readline()
    for rival in rivals:
        assert rival.stdin is not None
        rival.stdin.write("go\n")
        rival.stdin.flush()
    held = refused = 0
    for number, rival in enumerate(rivals):
        output, errors = rival.communicate(timeout=300)
        mine = [int(count) for count in output.split()]
        outcome.tried += rounds - 1
        outcome.count(rival.returncode == 0 and sum(mine) == rounds, f"process {number}: {errors[-300:]}")
        held, refused = held + sum(mine[:1]), refused + sum(mine[1:])
        scale.told(number + 1, len(rivals))
    outcome.count(held > 0 and not (folder / LOCK_NAME).exists(), f"held {held} times, or a lock is left")
    outcome.measured = {"held": held, "refused": refused}
    return outcome


def stale_locks(scale: Scale, folder: Path) -> Outcome:
    """Locks that were left: of a dead process, of a number that is used again, of other hosts, torn, of this kernel."""
    outcome, mine = Outcome(), this_process()
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    boot = Path("/proc/sys/kernel/random/boot_id")
    this_kernel = boot.read_text(encoding="ascii").strip() if boot.exists() else ""
    elsewhere = Owner("another-host", mine.pid, mine.started)
    left: dict[str, tuple[bytes, bool]] = {
        "a process that ended": (_record(mine._replace(pid=dead.pid)), True),
        "a number that is used again": (_record(mine._replace(started=mine.started - 1)), True),
        "the first process, of another start": (_record(Owner(mine.host, 1, 0)), True),
        "this very process": (_record(mine), True),
        "another host": (_record(elsewhere), False),
        "another host, another kernel": (_record(elsewhere, boot="0"), False),
        "half a record": (_record(elsewhere)[:20], True),
        "nothing": (b"", True),
        "no record": (b'[1, {"host": 3}]', True),
    }
    if this_kernel:
        left["a container under this kernel"] = (_record(elsewhere, boot=this_kernel), True)
    for number, (whose, (content, breaks)) in enumerate(left.items()):
        run = folder / str(number)
        run.mkdir(parents=True)
        (run / "config.yaml").touch()
        (run / LOCK_NAME).write_bytes(content)
        said = ""
        try:
            with RunLock(run):
                broken = json.loads((run / LOCK_NAME).read_bytes())["pid"] == os.getpid()
        except RunInUseError as error:
            broken, said = False, str(error)
        told = broken or ("process" in said and "another-host" in said and f"delete {run / LOCK_NAME}" in said)
        outcome.count(broken == breaks and told, f"a lock of {whose}: {'broken' if broken else said}")
        scale.told(number + 1, len(left))
    return outcome


def _record(owner: Owner, **more: str) -> bytes:
    return json.dumps({**owner._asdict(), **more}).encode()


EXPERIMENTS = (
    Experiment(
        "R22",
        "a second training in a run's folder, while the first works, hangs, was killed",
        "refused with process and host of the first; after a kill the run goes on to the same SHA-256",
        second_trainer,
    ),
    Experiment("R22", "six processes ask for one lock", "never two hold it", crowd),
    Experiment(
        "R22",
        "locks that were left behind",
        "those of processes that are surely gone are broken; those of other hosts stand, and the error says what to do",
        stale_locks,
    ),
)
