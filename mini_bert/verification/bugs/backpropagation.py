"""Bugs of backpropagation."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug

FAMILY = "backpropagation"

BUGS: tuple[Bug, ...] = ()
