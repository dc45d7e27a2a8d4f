"""Bugs of attention."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug

FAMILY = "attention"

BUGS: tuple[Bug, ...] = ()
