"""Bugs of evaluation."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug

FAMILY = "evaluation"

BUGS: tuple[Bug, ...] = ()
