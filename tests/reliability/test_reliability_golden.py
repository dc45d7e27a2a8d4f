"""What older versions wrote goes on; random numbers are those of ever; and a change of either is noticed."""

from __future__ import annotations

import numpy as np

from mini_bert.random_streams import RandomStream
from mini_bert.training import step
from mini_bert.verification.reliability import golden
from mini_bert.verification.reliability.promise import Scale

QUICK = Scale(quick=True)


def test_runs_of_every_released_format_go_on(tmp_path):
    outcome = golden.old_checkpoints(QUICK, tmp_path)
    assert outcome.kept, outcome.failures


def test_random_numbers_are_those_of_ever(tmp_path):
    outcome = golden.random_numbers(QUICK, tmp_path)
    assert outcome.kept, outcome.failures


def test_an_optimizer_that_goes_on_otherwise_is_noticed(tmp_path, monkeypatch):
    learning_rate = step.learning_rate
    monkeypatch.setattr(step, "learning_rate", lambda *step, **options: -learning_rate(*step, **options))
    failures = golden.old_checkpoints(QUICK, tmp_path).failures
    assert any("the loss of step 7" in failure for failure in failures)


def test_a_generator_that_draws_otherwise_is_noticed(tmp_path, monkeypatch):
    words = RandomStream.words

    def otherwise(stream, first_block, blocks):
        drawn = words(stream, first_block, blocks)
        return drawn ^ np.uint64(1 << 63) if stream.name.startswith("order") else drawn

    monkeypatch.setattr(RandomStream, "words", otherwise)
    failures = golden.random_numbers(QUICK, tmp_path).failures
    assert {failure.split(":")[0] for failure in failures} == {
        "order of 6 rows",
        "order of 1000 rows",
        "order of two corpora",
    }


def test_a_format_that_is_not_kept_is_missed(tmp_path, monkeypatch):
    monkeypatch.setattr(golden, "FORMAT_VERSION", golden.FORMAT_VERSION + 1)
    assert golden.old_checkpoints(QUICK, tmp_path).failures == ["the present format is not kept"]


def test_writing_is_only_done_on_purpose(capsys):
    assert golden.main([]) == 2
    assert "only on purpose" in capsys.readouterr().err
