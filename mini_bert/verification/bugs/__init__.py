"""The bug zoo: real bugs of transformer code, each a small edit of ours that the tests have to catch.

Nothing here imports the code under test: a bug has to be injected before that is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping

from mini_bert.verification.bugs import (
    activations,
    attention,
    backpropagation,
    blocks,
    data,
    dropout,
    embeddings,
    evaluation,
    heads,
    losses,
    masking,
    normalization,
    optimization,
    positions,
    probes,
    rates,
    tasks,
    training,
)
from mini_bert.verification.bugs.bug import Bug

FAMILIES = (
    attention,
    positions,
    embeddings,
    normalization,
    activations,
    blocks,
    dropout,
    heads,
    losses,
    backpropagation,
    optimization,
    rates,
    training,
    data,
    masking,
    tasks,
    probes,
    evaluation,
)
"""The files of the zoo, in the order in which a batch meets them."""

BUGS: Mapping[str, Bug] = {bug.name: bug._replace(family=family.FAMILY) for family in FAMILIES for bug in family.BUGS}
"""Name → bug, family by family."""
