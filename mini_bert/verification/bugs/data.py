"""Bugs of data."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug

FAMILY = "data"

BUGS: tuple[Bug, ...] = ()
