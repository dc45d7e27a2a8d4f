"""R19: the experiments about memory keep their promises, and notice when the code does not."""

from __future__ import annotations

import pytest

from mini_bert.verification.reliability import memory
from mini_bert.verification.reliability.memory import Ended
from mini_bert.verification.reliability.promise import Scale

QUICK = Scale(quick=True)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", memory.EXPERIMENTS, ids=lambda experiment: experiment.run.__name__)
def test_promises_about_memory(experiment, tmp_path):
    outcome = experiment.run(QUICK, tmp_path)
    assert outcome.kept, outcome.failures


def watched(**results):
    """Made-up results of trainings, by the name of the training."""
    usual = {
        "resident": [100_000_000] * 150,
        "warnings": [],
        "sha256": "a",
        "address_space": 10**9,
        "in_flight": 4,
        "seconds": 1.0,
        "seconds_forecast": 1.0,
    }
    return lambda folder, name, preset, settings, **order: {**usual, **results.get(name.split("-")[0], {})}


def test_memory_that_grows_is_noticed(tmp_path, monkeypatch):
    first = [90_000_000] * 50
    a_tooth, leak = [100_000_000 + 40_000 * n for n in range(50)], [100_000_000 + 20_000 * n for n in range(100)]
    for number, (sizes, failures) in enumerate(
        (
            ([100_000_000] * 100, 0),
            (2 * a_tooth, 0),
            ([100_000_000] * 50 + [100_999_999] * 50, 0),
            ([100_000_000] * 50 + [101_000_000] * 50, 1),
            (leak, 0),
            ([2 * size - 100_000_000 for size in leak], 1),
        )
    ):
        monkeypatch.setattr(memory, "_watched", watched(long={"resident": first + sizes}))
        assert len(memory.long_trainings(QUICK, tmp_path / str(number)).failures) == failures


def test_a_starved_run_that_ends_elsewhere_or_says_nothing_is_noticed(tmp_path, monkeypatch):
    said, chosen = {"warnings": ["Memory ran out with 4 shards at once"]}, {"in_flight": 2}
    for results, failures in (
        ({"starved": said, "chosen": chosen}, 0),
        ({"chosen": chosen}, 1),
        ({"starved": said}, 1),
        ({"starved": {**said, "sha256": "b"}, "chosen": chosen}, 1),
        ({"starved": said, "chosen": {**chosen, "sha256": "b"}}, 1),
        ({"starved": said, "chosen": chosen, "two": {"sha256": "b"}}, 1),
    ):
        monkeypatch.setattr(memory, "_watched", watched(**results))
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        assert len(memory.starving(QUICK, folder).failures) == failures


def test_a_refusal_that_comes_late_or_advises_wrongly_is_noticed(tmp_path, monkeypatch):
    refusal = "expected at most 1 MB. It would need 2 MB with --train.in-flight 1 --train.shards 8."
    right = {"large": Ended(2, refusal, 50_000_000), "limited": Ended(2, refusal, 0), "advised": Ended(0, "", 0)}
    wrong = {
        "large": [Ended(0, "", 50_000_000), Ended(2, refusal, 200_000_000), Ended(1, refusal, 0)],
        "limited": [Ended(0, "", 0), Ended(2, "no advice", 0)],
        "advised": [Ended(2, refusal, 0)],
    }
    cases = [right, *({**right, name: ended} for name, every in wrong.items() for ended in every)]
    for number, case in enumerate(cases):
        given = []

        def pretrain(folder, name, preset, settings, *words, limit=None, case=case, given=given):
            given.extend(words)
            return case[name.split("-")[0]]

        monkeypatch.setattr(memory, "_pretrain", pretrain)
        assert memory.refusals(QUICK, tmp_path / str(number)).kept == (number == 0)
        assert given in ([], ["--train.in-flight", "1", "--train.shards", "8"])


@pytest.mark.slow
def test_an_estimate_that_is_wrong_is_noticed(tmp_path, monkeypatch):
    estimate = memory.estimate_training_bytes
    monkeypatch.setattr(memory, "estimate_training_bytes", lambda *given: int(1.25 * estimate(*given)))
    monkeypatch.setattr(memory, "GRID", memory.GRID[:1])
    outcome = memory.estimates(QUICK, tmp_path)
    assert outcome.tried == 2
    assert len(outcome.failures) == 1
