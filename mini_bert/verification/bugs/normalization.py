"""Bugs of normalization."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug

FAMILY = "normalization"

BUGS: tuple[Bug, ...] = ()
