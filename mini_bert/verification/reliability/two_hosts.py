"""Do two hosts train to the same bits as one? Two network namespaces of this machine stand for them.

Each has an address of its own and nothing else in common with the other but a cable (a pair of virtual interfaces) and
the disk; the launcher reaches the second through `ip netns exec` where it would use ssh. Shared memory is turned off,
so that gradients go over the cable; its counter shows that they did. This takes root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mini_bert.verification.reliability.promise import Outcome, Scale
from mini_bert.verification.reliability.ranks import SECONDS_TO_END, Way, kill_rank, mpiexec, rank_processes
from mini_bert.verification.reliability.subject import Subject

_PATIENCE = 5.0
"""Seconds for the cable between the hosts to be up."""
_ADDRESSES = ("10.213.77.1", "10.213.77.2")
_REMOTE = """#!/bin/sh
# Called like ssh: options, a host, a command.
while [ "${{1#-}}" != "$1" ]; do shift; done
host=$1; shift
case $host in {cases} esac
exec ip netns exec "$space" sh -c "$*"
"""


class Hosts(NamedTuple):
    """Two namespaces that reach each other."""

    spaces: tuple[str, str]
    remote: Path
    """The script that stands for ssh."""

    def launcher(self, ranks: int) -> list[str]:
        """Words before a command: half of the ranks on each host."""
        return [
            *("ip", "netns", "exec", self.spaces[0], mpiexec(), "-n", str(ranks), "-ppn", str(ranks // 2)),
            *("-hosts", ",".join(_ADDRESSES), "-localhost", _ADDRESSES[0]),
            *("-launcher", "ssh", "-launcher-exec", str(self.remote)),
            *("-genv", "UCX_TLS", "tcp,self", "-genv", "FI_PROVIDER", "tcp"),
        ]

    def sent_bytes(self) -> int:
        """What the first host has sent through the cable."""
        counter = f"/sys/class/net/{_interface(self.spaces[0])}/statistics/tx_bytes"
        return int(_ip("netns", "exec", self.spaces[0], "cat", counter))


def two_hosts(scale: Scale, folder: Path) -> Outcome:
    """2 and 4 ranks on two hosts; a rank killed on the second; the rest of it on one host."""
    outcome = Outcome()
    whole = Subject(folder / "whole").train()
    if whole.code:
        outcome.count(False, f"the run on one host: exit code {whole.code} {whole.errors[-300:]}")
        return outcome
    try:
        with hosts(folder) as pair:
            every = (2, 4) if not scale.quick else (2,)
            for number, ranks in enumerate(every):
                subject, before = Subject(folder / f"{ranks}"), pair.sent_bytes()
                ended = subject.train(launcher=pair.launcher(ranks))
                sent = pair.sent_bytes() - before
                outcome.count(
                    ended.code == 0 and ended.result == whole.result,
                    f"{ranks} ranks on two hosts: exit code {ended.code}, {ended.result.get('sha256')} instead of "
                    f"{whole.result.get('sha256')} {ended.errors[-300:]}",
                )
                outcome.count(sent > 1_000_000, f"{ranks} ranks on two hosts: only {sent} bytes went over the cable")
                outcome.measured[f"bytes_sent_{ranks}_ranks"] = sent
                scale.told(number + 1, len(every) + 1)
            subject = Subject(folder / "killed")
            code, seconds = kill_rank(subject, Way(2), rank=1, at=15, launcher=pair.launcher(2))
            left = rank_processes(subject)
            outcome.count(
                code != 0 and seconds <= SECONDS_TO_END and not left,
                f"rank on the other host killed: exit code {code} after {seconds:.1f} s, {len(left)} rank(s) left",
            )
            outcome.measured["seconds_to_end"] = round(seconds, 2)
    except _NotPossible as error:
        outcome.measured["not_possible"] = str(error)
        return outcome
    ended = subject.train(resume="auto")
    outcome.count(
        ended.code == 0 and ended.result == whole.result,
        f"resumed on one host: exit code {ended.code}, {ended.result.get('sha256')} {ended.errors[-300:]}",
    )
    scale.told(len(every) + 1, len(every) + 1)
    return outcome


@contextmanager
def hosts(folder: Path) -> Iterator[Hosts]:
    """Two namespaces with a cable between them, which are gone afterwards."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("ip") is None:
        raise _NotPossible("network namespaces need root and the command ip")
    spaces = (f"mbert{os.getpid()}a", f"mbert{os.getpid()}b")
    try:
        try:
            _join(spaces)
        except subprocess.CalledProcessError as error:
            raise _NotPossible(f"{' '.join(error.cmd)}: {error.stderr.strip()}") from error
        remote = folder / "remote"
        cases = " ".join(f"{address}) space={space};;" for address, space in zip(_ADDRESSES, spaces, strict=True))
        remote.write_text(_REMOTE.format(cases=cases), encoding="utf-8")
        remote.chmod(0o755)
        yield Hosts(spaces, remote)
    finally:
        for space in spaces:
            subprocess.run(["ip", "netns", "delete", space], capture_output=True, check=False)


def _join(spaces: Sequence[str]) -> None:
    first, second = (_interface(space) for space in spaces)
    for space in spaces:
        _ip("netns", "add", space)
    _ip("-n", spaces[0], "link", "add", first, "type", "veth", "peer", "name", second, "netns", spaces[1])
    for space, address in zip(spaces, _ADDRESSES, strict=True):
        _ip("-n", space, "address", "add", f"{address}/24", "dev", _interface(space))
        for interface in ("lo", _interface(space)):
            _ip("-n", space, "link", "set", interface, "up")
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and not all(_is_up(space) for space in spaces):
        time.sleep(0.01)


def _is_up(space: str) -> bool:
    """Whether the cable is plugged in, as the kernel sees it some moments after it was told so."""
    return _ip("netns", "exec", space, "cat", f"/sys/class/net/{_interface(space)}/operstate").strip() == "up"


def _interface(space: str) -> str:
    return f"v{space[5:]}"


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True).stdout


class _NotPossible(Exception):
    """This machine, or this user, cannot make namespaces."""
