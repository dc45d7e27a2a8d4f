"""Bugs of optimization."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug

FAMILY = "optimization"

BUGS: tuple[Bug, ...] = ()
