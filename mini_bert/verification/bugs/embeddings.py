"""Bugs of embeddings."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug

FAMILY = "embeddings"

BUGS: tuple[Bug, ...] = ()
