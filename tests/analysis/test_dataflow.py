"""The graph of named intermediates, proven by interventions: what an intermediate does not read cannot change it."""

from __future__ import annotations

import numpy as np
import pytest
from small_bert import BATCH, small_bert

from mini_bert.analysis.dataflow import OPERATIONS, block_of, inputs_of, operation_of
from mini_bert.analysis.narrow_pass import Recording, forward
from mini_bert.errors import InvalidInputError

MODEL = small_bert(num_hidden_layers=3)
OTHER = BATCH._replace(input_ids=(BATCH.input_ids + 3) % 11 + (BATCH.input_ids == 0))
NAMES = [
    *("embeddings.token", "embeddings.position", "embeddings.segment", "embeddings.sum", "embeddings.output"),
    *(f"layer_{i}.{name}" for i in range(3) for name in OPERATIONS if name.startswith(("att", "feed", "output"))),
    *("mlm.pre_activation", "mlm.activation", "mlm.output", "logits"),
]


@pytest.fixture(scope="module")
def recorded():
    first, other = Recording(), Recording()
    forward(MODEL, BATCH, first)
    forward(MODEL, OTHER, other)
    return first.after, other.after


def test_the_names_are_those_of_a_pass_in_order_of_computation(recorded):
    assert sorted(NAMES) == sorted(recorded[0])
    for name in NAMES:
        assert all(list(recorded[0]).index(other) < list(recorded[0]).index(name) for other in inputs_of(name, 3))


@pytest.mark.parametrize("name", [name for name in NAMES if inputs_of(name, 3)])
def test_an_intermediate_is_a_function_of_its_inputs_and_of_each_of_them(recorded, name):
    first, other = recorded
    inputs = [read for read in inputs_of(name, 3) if not np.array_equal(first[read], other[read])]
    assert inputs
    assert not np.array_equal(first[name], other[name])

    def with_inputs(values: dict[str, np.ndarray]) -> np.ndarray:
        """`name` in the pass over the other batch, with these values in the places of some intermediates."""
        recording = Recording(lambda at, value: values.get(at, value))
        forward(MODEL, OTHER, recording)
        return recording.before[name]

    patches = {read: first[read] for read in inputs}
    assert np.array_equal(with_inputs(patches), first[name])
    for read in inputs:
        assert not np.array_equal(with_inputs({**patches, read: other[read]}), first[name])


def test_names_that_no_pass_has_are_refused():
    assert (block_of("layer_11.output"), block_of("logits")) == (11, None)
    for wrong in ("layer_0.attention.P", "pooler.output"):
        with pytest.raises(InvalidInputError, match="intermediate"):
            operation_of(wrong)
        with pytest.raises(InvalidInputError, match="intermediate"):
            inputs_of(wrong, 2)
