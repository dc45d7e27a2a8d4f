"""Bugs of heads."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug

FAMILY = "heads"

BUGS: tuple[Bug, ...] = ()
