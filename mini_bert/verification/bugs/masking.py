"""Bugs of masking."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug

FAMILY = "masking"

BUGS: tuple[Bug, ...] = ()
