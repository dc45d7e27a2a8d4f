"""Bugs of dropout."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug

FAMILY = "dropout"

BUGS: tuple[Bug, ...] = ()
