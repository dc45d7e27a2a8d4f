"""No damage loads silently; a reader that looks less closely is noticed."""

from __future__ import annotations

import pytest

from mini_bert.interop import manifest
from mini_bert.verification.reliability import corruption
from mini_bert.verification.reliability.promise import Scale


@pytest.mark.parametrize(
    "experiment",
    [
        corruption.cut_lengthened_swapped,
        corruption.flipped_bits,
        pytest.param(corruption.resume_past_damage, marks=pytest.mark.slow),
    ],
)
def test_damage_never_loads(experiment, tmp_path):
    outcome = experiment(Scale(quick=True), tmp_path)
    assert outcome.kept, outcome.failures


def test_a_reader_that_trusts_sizes_is_noticed(tmp_path, monkeypatch):
    honest = manifest._difference

    def hasty(path, size, sha256):
        error = honest(path, size, sha256)
        return None if error is not None and "other bytes" in str(error.got) else error

    monkeypatch.setattr(manifest, "_difference", hasty)
    assert corruption.flipped_bits(Scale(quick=True), tmp_path).failures
