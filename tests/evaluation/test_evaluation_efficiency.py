"""Is what a model costs counted right?"""

from __future__ import annotations

import numpy as np
import pytest
from small_bert import small_bert

from mini_bert.batch import Batch
from mini_bert.config.schema import Config, ModelConfig
from mini_bert.errors import InvalidInputError
from mini_bert.evaluation.efficiency import measure_efficiency, training_flops

IDS = np.array([[2, 5, 6, 7, 5, 3]] * 40)


def test_a_token_of_the_default_model_costs_what_its_matrices_say() -> None:
    H, I, T, L = 192, 768, 64, 3
    block = 2 * (4 * H * H + 2 * H * I) + 4 * T * H
    model = small_bert()
    measured = measure_efficiency(model, [Batch(IDS)], threads=2)
    config = model.config
    ours = 2 * (4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size)
    expected = config.num_hidden_layers * (ours + 4 * IDS.shape[1] * config.hidden_size)
    assert measured["flops_a_token"] == expected
    assert measured["parameters"] == model.parameters.buffer.size
    assert measured["tokens_a_second"] > 0
    assert measured["training_flops"] is None
    config = Config(train={"steps": 10})
    step = 3 * (64 * 64 * block * (L - 1) / 1 + _last_block_and_head(595))
    assert training_flops(config) == pytest.approx(10 * step)
    assert training_flops(config, 4) == pytest.approx(4 * step)
    assert training_flops(config, 0) == 0
    falling = {"rate": 0.3, "rate_schedule": "linear", "final_rate": 0.15}
    fewer = Config(train={"steps": 10}, masking=falling)
    assert training_flops(fewer) == pytest.approx(
        10 * (step + 3 * (_last_block_and_head(893) - _last_block_and_head(595)))
    )
    assert training_flops(fewer, 1) == training_flops(Config(train={"steps": 10}, masking={"rate": 0.3}), 1)


def _last_block_and_head(masked: int) -> float:
    c, R = ModelConfig(), 64 * 64
    H, I, V = c.hidden_size, c.intermediate_size, c.vocab_size
    return 4 * R * H * H + masked * (4 * H * H + 4 * 64 * H + 4 * H * I) + 2 * masked * (H * H + H * V)


def test_what_is_not_known_is_left_open() -> None:
    assert training_flops(Config()) is None
    assert training_flops(Config(train={"steps": 10}, masking={"rate_schedule": "adaptive"})) is None
    assert training_flops(Config(train={"steps": 10}, data={"layout": "sentences"})) is None


def test_rows_of_other_lengths_count_as_what_they_are() -> None:
    model = small_bert()
    short, long = Batch(IDS[:, :4]), Batch(IDS)
    one, other, both = (
        measure_efficiency(model, batches, threads=1)["flops_a_token"] for batches in ([short], [long], [short, long])
    )
    assert both == pytest.approx((one * short.input_ids.size + other * long.input_ids.size) / (40 * 10))
    assert one < both < other
    with pytest.raises(InvalidInputError, match="no row"):
        measure_efficiency(small_bert(), [])
