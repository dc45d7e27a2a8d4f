"""The figures in the guides to variants and optimisers are those of the code."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from mini_bert.config.schema import ModelConfig, OptimizerConfig
from mini_bert.model.bert import MiniBERT
from mini_bert.model.parameters import parameter_table
from mini_bert.training.step import TrainingState

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide"


def parameters(**settings) -> int:
    return sum(math.prod(row.shape) for row in parameter_table(ModelConfig(**settings)))


def variant_rows() -> list[tuple[dict, int]]:
    rows = []
    for line in (GUIDE / "variants.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        found = re.match(r"`(\w+): (\w+)`((?:, `\w+`)*)$", cells[0]) if len(cells) == 4 else None
        if not found or cells[3] == "the default":
            continue
        name, values = found[1], [found[2], *re.findall(r"`(\w+)`", found[3])]
        numbers = [int(text.replace("−", "-").replace(",", "")) for text in re.findall(r"[−+]?\d[\d,]*", cells[3])]
        if name == "feed_forward":
            rows += [({name: "gated"}, numbers[0]), ({name: "gated", "intermediate_size": 512}, numbers[1])]
        else:
            typed = [{"false": False}.get(value, value) for value in values]
            numbers = numbers * len(values) if len(numbers) == 1 else numbers
            rows += [({name: value}, number) for value, number in zip(typed, numbers, strict=True)]
    return rows


@pytest.mark.parametrize(("settings", "more"), variant_rows())
def test_a_variant_has_so_many_parameters_more(settings, more):
    assert parameters(**settings) - parameters() == more


def test_every_variant_is_in_the_table():
    named = {(name, value) for settings, _ in variant_rows() for name, value in settings.items()}
    for name in ("position_embedding_type", "attention_gate", "feed_forward", "norm", "norm_placement"):
        choices = ModelConfig.model_fields[name].annotation.__args__
        for value in choices:
            assert (name, value) in named or value == ModelConfig.model_fields[name].default


def kept() -> list[tuple[str, str, float]]:
    text = (GUIDE / "optimizers.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| `(\w+): ([\w.]+)` .*\| \+?([\d.]+) \|$", text, re.MULTILINE)
    return [(name, value, float(number)) for name, value, number in found]


@pytest.mark.parametrize(("name", "value", "told"), kept())
def test_an_optimiser_keeps_so_many_bytes(name, value, told):
    model = MiniBERT()

    def of(config: OptimizerConfig) -> float:
        vectors = TrainingState.fresh(model, config).vectors
        return (sum(np.asarray(vector).nbytes for vector in vectors) - model.parameters.buffer.nbytes) / (
            model.parameters.buffer.size
        )

    measured = of(OptimizerConfig.model_validate({name: value}))
    measured -= 0.0 if name == "name" else of(OptimizerConfig())
    assert measured == pytest.approx(told, abs=0.05 if told != 0.05 else 0.01)


def test_every_optimiser_is_in_the_table():
    names = OptimizerConfig.model_fields["name"].annotation.__args__
    assert {value for name, value, _ in kept() if name == "name"} == set(names)
