"""Bugs of losses."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug

FAMILY = "losses"

BUGS: tuple[Bug, ...] = ()
