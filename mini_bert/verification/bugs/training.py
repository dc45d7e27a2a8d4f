"""Bugs of training."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug

FAMILY = "training"

BUGS: tuple[Bug, ...] = ()
