"""What is told when a run gives up: can a person who was not there tell what happened and what to do?"""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from mini_bert.config.schema import HealthConfig, ModelConfig
from mini_bert.model.bert import MiniBERT
from mini_bert.model.parameters import Parameters
from mini_bert.training.health import Health
from mini_bert.training.incident import incident, incident_text, not_finite_in
from mini_bert.training.non_finite import NonFinite
from mini_bert.training.step import StepResult, TrainingState

CONFIG = ModelConfig(
    vocab_size=40,
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=12,
    max_position_embeddings=12,
)
SCORES = NonFinite("layer_0.attention.scores", "forward", "overflow", "ops/attention.py", 2, (5,))


def state() -> TrainingState:
    made = TrainingState.fresh(MiniBERT(CONFIG))
    made.model.parameters["W1_1"][2, 3] = -7.0
    made.model.parameters["W_mlm"][0, 0] = 3.0
    Parameters(CONFIG, buffer=made.optimizer["m"])["b_Q_0"][1] = -0.5
    Parameters(CONFIG, buffer=made.optimizer["v"])["position_embeddings"][1, 1] = 0.25
    made.step = 30
    return made


def health(found: NonFinite = SCORES, norms: tuple[float, ...] = (1.0, 1.5)) -> Health:
    made = Health()
    for number in range(5, 31):
        skipped = number > 25
        loss, norm = (math.nan, math.inf) if skipped else (5.0 - number / 100, norms[number % len(norms)])
        result = StepResult(number, loss, 0.1, norm, 1e-3, 64, 9, skipped, found if skipped else None)
        made.after_step(result, HealthConfig())
    return made


def test_the_last_steps_are_told_with_their_findings() -> None:
    told = incident(health(), state(), HealthConfig(), "Five in a row.")
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert (told["step"], told["reason"], told["lr_scale"]) == (30, "Five in a row.", 1.0)
    assert [step["step"] for step in told["steps"]] == list(range(11, 31))
    assert [step["found"] for step in told["steps"]] == [None] * 15 + [str(SCORES)] * 5
    assert told["steps"][0]["loss"] == pytest.approx(4.89)
    assert [told["steps"][-1][key] for key in ("loss", "grad_norm", "skipped")] == [None, None, True]


def test_magnitudes_are_by_part_of_the_model() -> None:
    largest = incident(health(), state(), HealthConfig(), "")["largest"]
    assert list(largest) == ["embeddings", "layer_0", "layer_1", "mlm"]
    assert largest["layer_1"]["parameters"] == 7.0
    assert largest["mlm"]["parameters"] == 3.0
    assert [part["m"] for part in largest.values()] == [0.0, 0.5, 0.0, 0.0]
    assert [part["v"] for part in largest.values()] == [0.25, 0.0, 0.0, 0.0]


def test_the_text_shows_what_the_values_say() -> None:
    text = incident_text(incident(health(), state(), HealthConfig(), "Five in a row."))
    lines = text.splitlines()
    assert lines[0] == "Five in a row."
    assert lines[3].split() == ["11", "4.89", "1.5", "0.001"]
    assert lines[22].split(maxsplit=6) == ["30", "not", "finite", "not", "finite", "0.001", str(SCORES)]
    assert "layer_1                    7           0           0" in lines
    assert "--train.lr" in lines[-2]
    assert "--health.lr-cut-after-skips 2" in lines[-1]


@pytest.mark.parametrize("place", ["W_Q_1", "m of W_Q_1", "v of W_Q_1"])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_state_that_is_not_finite_is_named_and_not_to_be_gone_on_with(place: str, value: float) -> None:
    bad = state()
    assert not_finite_in(bad) is None
    vectors = {"W": bad.model.parameters.buffer, "m": bad.optimizer["m"], "v": bad.optimizer["v"]}
    Parameters(CONFIG, buffer=vectors[place[0]])["W_Q_1"].flat[-1] = value
    assert not_finite_in(bad) == place
    told = incident(health(), bad, HealthConfig(), "")
    assert told["advice"][0].startswith(f"{place} is not finite")
    assert "--resume" in told["advice"][0]
    assert told["largest"]["layer_1"][{"W": "parameters", "m": "m", "v": "v"}[place[0]]] is None
    assert "not finite" in incident_text(told)


def test_what_does_not_come_again_is_no_fault_of_the_settings() -> None:
    advice = incident(health(NonFinite("loss", "loss", "NaN", again=False)), state(), HealthConfig(), "")["advice"]
    assert "suspect the machine" in advice[0]
    assert not any("--train.lr" in sentence for sentence in advice)


def test_settings_that_are_on_are_not_advised() -> None:
    advice = incident(health(), state(), HealthConfig(lr_cut_after_skips=2), "")["advice"]
    assert len(advice) == 1


def test_a_gradient_that_had_grown_is_pointed_at() -> None:
    grown = health()
    grown.steps[14]["grad_norm"] = 80.0
    advice = incident(grown, state(), HealthConfig(), "")["advice"]
    assert "went from 1.5 to 80 before" in advice[-1]
    assert len(incident(grown, state(), HealthConfig(spike="roll-back"), "")["advice"]) == len(advice) - 1


def test_parameters_that_have_grown_are_not_to_be_gone_on_with() -> None:
    grown = state()
    grown.model.parameters["W_O_0"][0, 0] = -2e7
    advice = incident(health(), grown, HealthConfig(), "")["advice"]
    assert "have grown to 2e+07" in advice[1]
    assert not any("lr-cut-after-skips" in sentence for sentence in advice)
