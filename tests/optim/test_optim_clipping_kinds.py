"""The kinds of clipping beside slow loops: which norms there are, which are too long, and what is left of each."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mini_bert.config.schema import ModelConfig
from mini_bert.errors import InvalidInputError
from mini_bert.model.parameters import parameter_table
from mini_bert.ops.contract import Array
from mini_bert.optim.clipping import clip, global_norm
from mini_bert.optim.layout import Layout, Tensor, length
from mini_bert.training.layout import layout_of

LAYOUT: Layout = (
    Tensor("table", 0, 15, (5, 3), True, 0, False, True),
    Tensor("W_0", 15, 27, (3, 4), True, 1, True),
    Tensor("W_1", 27, 35, (4, 2), True, 2, True),
    Tensor("W_head", 35, 41, (2, 3), True, 3, False, answers=True),
    Tensor("gamma", 41, 44, (3,), False, 0, False),
    Tensor("b_0", 44, 48, (4,), False, 1, False),
    Tensor("b_1", 48, 50, (2,), False, 2, False),
)
SIZE = length(LAYOUT)


def vectors(seed: int, dtype: Any = np.float64) -> tuple[Array, Array]:
    """Gradients of widely unlike sizes, and weights of which some are 0."""
    rng = np.random.default_rng(seed)
    gradients = rng.normal(size=SIZE) * 10.0 ** rng.uniform(-4, 1, SIZE)
    weights = rng.normal(size=SIZE)
    weights[44:50] = 0.0
    return gradients.astype(dtype), weights.astype(dtype)


def length_of(values: Iterable[float]) -> float:
    return math.sqrt(math.fsum(float(value) ** 2 for value in values))


def layers_by_loops(gradients: list[float], divisor: float, most: float) -> tuple[list[float], float]:
    clipped, long = list(gradients), 0
    for depth in range(4):
        places = [i for t in LAYOUT if t.depth == depth for i in range(t.start, t.stop)]
        norm = length_of(gradients[i] / divisor for i in places)
        if norm > most:
            long += 1
            for i in places:
                clipped[i] = gradients[i] * most / norm
    return clipped, long / 4


def units_by_loops(
    gradients: list[float], weights: list[float], divisor: float, ratio: float
) -> tuple[list[float], float]:
    """Brock et al. 2021, equation 3, a unit at a time."""
    clipped, long, units = list(gradients), 0, 0
    for tensor in LAYOUT:
        if tensor.name == "W_head":
            continue  # answers are left alone
        if tensor.name == "table":
            groups = [[tensor.start + 3 * row + column for column in range(3)] for row in range(5)]
        elif tensor.name.startswith("W"):
            rows, columns = tensor.shape
            groups = [[tensor.start + row * columns + column for row in range(rows)] for column in range(columns)]
        else:
            groups = [list(range(tensor.start, tensor.stop))]
        for places in groups:
            units += 1
            norm = length_of(gradients[i] / divisor for i in places)
            limit = ratio * max(length_of(weights[i] for i in places), 1e-3)
            if norm > limit:
                long += 1
                for i in places:
                    clipped[i] = gradients[i] * limit / norm
    return clipped, long / units


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-13), (np.float32, 2e-6)])
@pytest.mark.parametrize("divisor", [1.0, 600.0])
@pytest.mark.parametrize("most", [1e-3, 0.3, 1e3])
def test_layers_are_those_of_the_loops(dtype: Any, tolerance: float, divisor: float, most: float) -> None:
    for seed in range(5):
        gradients, weights = vectors(seed, dtype)
        expected, share = layers_by_loops(gradients.tolist(), divisor, most)
        norm = length_of(gradients) / divisor
        found = clip(gradients, weights, LAYOUT, kind="layer", divisor=divisor, max_norm=most)
        assert (found.scale, found.share) == (1 / divisor, share)
        assert found.norm == pytest.approx(norm, rel=tolerance)
        np.testing.assert_allclose(gradients, expected, rtol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-13), (np.float32, 2e-6)])
@pytest.mark.parametrize("divisor", [1.0, 600.0])
@pytest.mark.parametrize("ratio", [1e-4, 0.02, 10.0])
def test_units_are_those_of_the_loops(dtype: Any, tolerance: float, divisor: float, ratio: float) -> None:
    for seed in range(5):
        gradients, weights = vectors(seed, dtype)
        before = weights.copy()
        expected, share = units_by_loops(gradients.tolist(), weights.tolist(), divisor, ratio)
        found = clip(gradients, weights, LAYOUT, kind="adaptive", divisor=divisor, adaptive=ratio)
        assert found.share == pytest.approx(share, rel=1e-15)
        assert found.scale == 1 / divisor
        np.testing.assert_allclose(gradients, expected, rtol=tolerance)
        np.testing.assert_array_equal(weights, before)


def test_some_are_clipped_and_some_are_not_in_these_tests() -> None:
    shares = [units_by_loops(*(v.tolist() for v in vectors(seed)), 1.0, 0.02)[1] for seed in range(5)]
    assert all(share > 0.2 for share in shares)
    assert min(shares) < 1.0
    assert {layers_by_loops(vectors(seed)[0].tolist(), 1.0, 0.3)[1] for seed in range(5)} != {1.0}


@pytest.mark.parametrize("kind", ["global", "none"])
def test_one_factor_leaves_the_gradients_alone(kind: str) -> None:
    gradients, weights = vectors(0)
    before, norm = gradients.copy(), length_of(gradients) / 8
    found = clip(gradients, weights, LAYOUT, kind=kind, divisor=8, max_norm=norm / 4)
    np.testing.assert_array_equal(gradients, before)
    assert found.norm == pytest.approx(norm)
    assert found.scale == pytest.approx({"global": 1 / 32, "none": 1 / 8}[kind])
    assert found.share == {"global": 1.0, "none": 0.0}[kind]
    assert clip(gradients, weights, LAYOUT, kind=kind, divisor=8, max_norm=2 * norm)[1:] == (1 / 8, 0.0)


@given(st.integers(0, 1000), st.floats(1e-4, 10.0))
@settings(deadline=None, max_examples=30)
def test_what_is_clipped_once_is_not_clipped_again(seed: int, ratio: float) -> None:
    """Up to rounding: a unit that was brought to its limit stands within a few ulps of it."""
    gradients, weights = vectors(seed)
    clip(gradients, weights, LAYOUT, kind="adaptive", adaptive=ratio)
    once = gradients.copy()
    clip(gradients, weights, LAYOUT, kind="adaptive", adaptive=ratio)
    np.testing.assert_allclose(gradients, once, rtol=1e-14)


def test_weights_that_are_nothing_still_learn() -> None:
    """A bias begins at 0: without ε, its gradient would be cut to nothing and it would stay there."""
    gradients, weights = np.ones(SIZE), np.zeros(SIZE)
    clip(gradients, weights, LAYOUT, kind="adaptive", adaptive=0.5)
    assert length_of(gradients[44:48]) == pytest.approx(0.5 * 1e-3)


@pytest.mark.parametrize("kind", ["global", "layer", "adaptive", "none"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_is_told_and_left(kind: str, bad: float) -> None:
    gradients, weights = vectors(0)
    gradients[30] = bad
    before = gradients.copy()
    found = clip(gradients, weights, LAYOUT, kind=kind, adaptive=1e-6, max_norm=1e-6)
    assert not math.isfinite(found.norm)
    assert found.share == 0.0
    np.testing.assert_array_equal(gradients, before)


@pytest.mark.parametrize("kind", ["global", "layer", "adaptive", "none"])
def test_no_gradient_at_all(kind: str) -> None:
    gradients, weights = np.zeros(SIZE), vectors(0)[1]
    assert clip(gradients, weights, LAYOUT, kind=kind) == (0.0, 1.0, 0.0)
    assert not gradients.any()


def test_refused() -> None:
    with pytest.raises(InvalidInputError) as error:
        clip(*vectors(0), LAYOUT, kind="value")
    assert error.value.argument == "kind"


def test_layers_of_the_model_are_embeddings_blocks_and_heads() -> None:
    """Of the default model: each part's norm is looked at by itself, each tensor is in one part."""
    layout = layout_of(parameter_table(ModelConfig()))
    for depth in range(5):
        gradients = np.full(length(layout), 1e-9, np.float32)
        for tensor in layout:
            if tensor.depth == depth:
                gradients[tensor.part] = 1.0
        found = clip(gradients, gradients, layout, kind="layer", max_norm=0.5)
        assert found.share == 1 / 5
        parts = [gradients[tensor.part] for tensor in layout if tensor.depth == depth]
        assert global_norm(np.concatenate(parts)) == pytest.approx(0.5, rel=1e-5)
    names = {depth: {tensor.name for tensor in layout if tensor.depth == depth} for depth in range(5)}
    assert names[0] == {
        "token_embeddings", "position_embeddings", "segment_embeddings", "gamma_embeddings", "beta_embeddings"
    }  # fmt: skip
    assert names[4] == {"W_mlm", "b_mlm", "gamma_mlm", "beta_mlm", "b_vocabulary"}
    assert {"W_Q_1", "b1_1", "gamma2_1"} <= names[2]


def test_units_of_the_model() -> None:
    """Rows of tables, outputs of matrices, whole vectors: one long entry is found in a unit of its own."""
    config = ModelConfig()
    layout = layout_of(parameter_table(config))
    units = sum(
        1 if len(tensor.shape) == 1 else tensor.shape[0] if "embeddings" in tensor.name else tensor.shape[1]
        for tensor in layout
        if tensor.name not in ("token_embeddings", "b_vocabulary")
    )
    for name, at, unit in (
        ("position_embeddings", (7, 3), np.s_[7, :]),
        ("W1_0", (7, 3), np.s_[:, 3]),
        ("W_mlm", (7, 3), np.s_[:, 3]),
        ("b1_0", (7,), np.s_[:]),
    ):
        tensor = next(tensor for tensor in layout if tensor.name == name)
        gradients, weights = np.full(length(layout), 1e-6), np.ones(length(layout))
        gradients[tensor.part].reshape(tensor.shape)[at] = 1e3
        found = clip(gradients, weights, layout, kind="adaptive")
        assert found.share == pytest.approx(1 / units)
        changed = gradients[tensor.part].reshape(tensor.shape) != 1e-6
        expected = np.zeros(tensor.shape, bool)
        expected[unit] = True
        np.testing.assert_array_equal(changed, expected)


@pytest.mark.parametrize(
    ("heads", "left_alone"),
    [
        (("mlm",), {"token_embeddings", "b_vocabulary"}),
        (("mlm", "nsp"), {"token_embeddings", "b_vocabulary", "W_nsp", "b_nsp"}),
        (("classifier",), {"W_classifier", "b_classifier"}),
    ],
)
def test_what_makes_the_answers_is_left_alone(heads: tuple[str, ...], left_alone: set[str]) -> None:
    layout = layout_of(parameter_table(ModelConfig(heads=heads)))
    gradients, weights = np.ones(length(layout)), np.ones(length(layout))
    clip(gradients, weights, layout, kind="adaptive", adaptive=1e-3)
    assert {tensor.name for tensor in layout if (gradients[tensor.part] == 1).all()} == left_alone
