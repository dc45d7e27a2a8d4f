"""Bugs of activations."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug

FAMILY = "activations"

BUGS: tuple[Bug, ...] = ()
