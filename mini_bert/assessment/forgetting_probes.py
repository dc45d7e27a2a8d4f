"""Which probes are asked before and after a fine-tuning?"""

from __future__ import annotations

from collections.abc import Callable

from mini_bert.data.task_sets.minimal_pairs import published_pairs
from mini_bert.data.task_sets.treebanks import treebank
from mini_bert.errors import DataError, MissingExtraError
from mini_bert.evaluation.forgetting import Probe
from mini_bert.model.bert import MiniBERT
from mini_bert.probing.minimal_pairs import probe_minimal_pairs, sample_of
from mini_bert.probing.part_of_speech import probe_part_of_speech

PAIRS = 100
"""Of each paradigm of BLiMP."""


def forgetting_probes(
    threads: int | None = None, left_out: Callable[[str, str], None] = lambda name, reason: None
) -> dict[str, Probe]:
    """Parts of speech by a linear probe (quick: 300 sentences) and BLiMP (100 pairs of each paradigm): accuracies.

    Args:
        threads: worker threads; they change the time, never the result.
        left_out: told of each probe whose data are not to be had, or whose extra is not installed, and why.
    """
    probes = {}
    for name, make in (("parts of speech", _part_of_speech), ("BLiMP", _grammar)):
        try:
            probes[name] = make(threads)
        except (DataError, MissingExtraError) as error:
            left_out(name, str(error))
    return probes


def _part_of_speech(threads: int | None) -> Probe:
    bank = treebank("ud-ewt")

    def accuracy(model: MiniBERT) -> float:
        result = probe_part_of_speech(model, bank, quick=True)
        return float(next(line["accuracy"] for line in result["table"] if line["name"] == "model"))

    return accuracy


def _grammar(threads: int | None) -> Probe:
    pairs = sample_of(published_pairs("blimp"), PAIRS)

    def accuracy(model: MiniBERT) -> float:
        result = probe_minimal_pairs(model, {"blimp": pairs}, threads=threads)
        return float(result["sets"][0]["total"]["pll"]["accuracy"])

    return accuracy
