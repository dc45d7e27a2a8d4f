"""One table, one buffer, named views; and the values before training."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import numpy as np
import pytest
from small_bert import SHAPE, small_bert

from mini_bert.config.schema import ModelConfig
from mini_bert.errors import InvalidInputError
from mini_bert.model.bert import MiniBERT
from mini_bert.model.parameters import Parameters, parameter_table
from mini_bert.random_streams import RandomStream

ALL_HEADS = [
    ("mlm",),
    ("mlm", "nsp"),
    (),
    ("nsp",),
    ("classifier",),
    ("token_classifier",),
    ("mlm", "nsp", "classifier"),
]
every_head = pytest.mark.parametrize("heads", ALL_HEADS)


def config_of(heads: tuple[str, ...] = ("mlm",)) -> ModelConfig:
    return ModelConfig(**{**SHAPE, "heads": heads})


@every_head
def test_views_cover_the_buffer_once(heads: tuple[str, ...]) -> None:
    parameters = Parameters(config_of(heads), np.float64)
    parameters.buffer[...] = np.arange(parameters.buffer.size)
    seen = np.concatenate([parameters[row.name].ravel() for row in parameters.table])
    np.testing.assert_array_equal(seen, parameters.buffer)
    for row in parameters.table:
        view = parameters[row.name]
        assert view.shape == row.shape
        assert view.flags.c_contiguous
        assert np.shares_memory(view, parameters.buffer)


@every_head
def test_decay_is_a_prefix_of_matrices_and_tables(heads: tuple[str, ...]) -> None:
    parameters = Parameters(config_of(heads))
    parameters.buffer[: parameters.decayed] = 1
    for name, view in parameters.items():
        assert view.all() == (view.ndim == 2), name
        assert view.any() == (view.ndim == 2), name
        assert (view.ndim == 2) == (
            name.startswith("W") or name in ("token_embeddings", "position_embeddings", "segment_embeddings")
        )


def test_structure_and_names_are_the_same_memory() -> None:
    p = small_bert(heads=("mlm", "nsp", "classifier")).parameters
    pairs = {
        "token_embeddings": p.embeddings.token_embeddings,
        "position_embeddings": p.embeddings.position_embeddings,
        "segment_embeddings": p.embeddings.segment_embeddings,
        "gamma_embeddings": p.embeddings.gamma,
        "beta_embeddings": p.embeddings.beta,
        "W_mlm": p.mlm.W,
        "b_mlm": p.mlm.b,
        "gamma_mlm": p.mlm.gamma,
        "beta_mlm": p.mlm.beta,
        "b_vocabulary": p.mlm.b_vocabulary,
        "W_pooler": p.pooler.W,
        "b_pooler": p.pooler.b,
        "W_nsp": p.linear_head("nsp").W,
        "b_nsp": p.linear_head("nsp").b,
        "W_classifier": p.linear_head("classifier").W,
        "b_classifier": p.linear_head("classifier").b,
    }
    for i, layer in enumerate(p.layers):
        pairs |= {
            f"W_Q_{i}": layer.attention.W_Q,
            f"W_K_{i}": layer.attention.W_K,
            f"W_V_{i}": layer.attention.W_V,
            f"b_Q_{i}": layer.attention.b_QKV[0],
            f"b_K_{i}": layer.attention.b_QKV[1],
            f"b_V_{i}": layer.attention.b_QKV[2],
            f"W_O_{i}": layer.attention.W_O,
            f"b_O_{i}": layer.attention.b_O,
            f"gamma1_{i}": layer.gamma1,
            f"beta1_{i}": layer.beta1,
            f"W1_{i}": layer.feed_forward.W1,
            f"b1_{i}": layer.feed_forward.b1,
            f"W2_{i}": layer.feed_forward.W2,
            f"b2_{i}": layer.feed_forward.b2,
            f"gamma2_{i}": layer.gamma2,
            f"beta2_{i}": layer.beta2,
        }
        assert layer.attention.W_QKV.shape == (3, 12, 12)
        assert layer.attention.b_QKV.shape == (3, 12)
        for view in (layer.attention.W_QKV, layer.attention.b_QKV):
            assert view.flags.c_contiguous
            assert np.shares_memory(view, p.buffer)
    assert set(pairs) == set(p)
    for name, view in pairs.items():
        assert view.__array_interface__["data"] == p[name].__array_interface__["data"], name
        assert view.shape == p[name].shape, name


def test_mapping_face() -> None:
    p = Parameters(config_of())
    assert isinstance(p, Mapping)
    assert list(p) == [row.name for row in p.table]
    assert len(p) == len(p.table) == 5 + 2 * 16 + 5
    assert "W_Q_1" in p
    assert "W_Q_2" not in p
    with pytest.raises(KeyError):
        p["W_nsp"]
    with pytest.raises(TypeError):
        p["W_Q_0"] = np.zeros((12, 12))


@every_head
def test_names_are_unique_here_and_at_hugging_face(heads: tuple[str, ...]) -> None:
    table = parameter_table(config_of(heads))
    for names in ([row.name for row in table], [row.hugging_face for row in table]):
        assert len(set(names)) == len(names)
    for row in table:
        assert row.transposed == (row.name.startswith("W"))
        assert (row.layer is None) == (not row.name[-1].isdigit())
        if row.layer is not None:
            assert row.name.endswith(f"_{row.layer}")
            assert f"encoder.layer.{row.layer}." in row.hugging_face
        encoder = row.component in ("embeddings", "attention", "feed_forward", "pooler")
        assert row.hugging_face.startswith("bert.") == (encoder and bool(heads))


def test_names_at_hugging_face() -> None:
    """As `transformers` and Google's checkpoints have them."""
    config = ModelConfig(**{**SHAPE, "num_hidden_layers": 1, "heads": ("mlm", "nsp", "classifier")})
    modules = {
        "token_embeddings": "bert.embeddings.word_embeddings",
        "position_embeddings": "bert.embeddings.position_embeddings",
        "segment_embeddings": "bert.embeddings.token_type_embeddings",
        "gamma_embeddings": "bert.embeddings.LayerNorm",
        "W_Q_0": "bert.encoder.layer.0.attention.self.query",
        "W_K_0": "bert.encoder.layer.0.attention.self.key",
        "W_V_0": "bert.encoder.layer.0.attention.self.value",
        "W_O_0": "bert.encoder.layer.0.attention.output.dense",
        "gamma1_0": "bert.encoder.layer.0.attention.output.LayerNorm",
        "W1_0": "bert.encoder.layer.0.intermediate.dense",
        "W2_0": "bert.encoder.layer.0.output.dense",
        "gamma2_0": "bert.encoder.layer.0.output.LayerNorm",
        "W_pooler": "bert.pooler.dense",
        "W_mlm": "cls.predictions.transform.dense",
        "gamma_mlm": "cls.predictions.transform.LayerNorm",
        "W_nsp": "cls.seq_relationship",
        "W_classifier": "classifier",
    }
    expected = {"b_vocabulary": "cls.predictions.bias"}
    for name, module in modules.items():
        expected[name] = f"{module}.weight"
        if name.startswith("W"):
            expected["b" + name[1:]] = f"{module}.bias"
        elif name.startswith("gamma"):
            expected[name.replace("gamma", "beta")] = f"{module}.bias"
    assert {row.name: row.hugging_face for row in parameter_table(config)} == expected


@pytest.mark.parametrize("head", ["classifier", "token_classifier"])
def test_both_classifiers_have_their_own_component_and_the_same_name_at_hugging_face(head: str) -> None:
    rows = [row for row in parameter_table(config_of((head,))) if row.name in (f"W_{head}", f"b_{head}")]
    assert [(row.component, row.hugging_face) for row in rows] == [
        (head, "classifier.weight"),
        (head, "classifier.bias"),
    ]


@every_head
def test_number_of_parameters_by_formula(heads: tuple[str, ...]) -> None:
    V, H, I, T, L, labels = 13, 12, 10, 7, 2, 3
    count = (V + T + 2) * H + 2 * H + L * (4 * (H * H + H) + H * I + I + I * H + H + 4 * H)
    if not heads or {"nsp", "classifier"} & set(heads):
        count += H * H + H
    count += (H * H + H + 2 * H + V) * ("mlm" in heads) + (2 * H + 2) * ("nsp" in heads)
    count += (H * labels + labels) * len({"classifier", "token_classifier"} & set(heads))
    assert Parameters(config_of(heads)).buffer.size == count


def test_a_buffer_of_ones_own() -> None:
    size = Parameters(config_of()).buffer.size
    buffer = np.arange(size, dtype=np.float64)
    parameters = Parameters(config_of(), buffer=buffer)
    assert parameters.buffer is buffer
    model = MiniBERT.from_parameters(parameters)
    assert model.parameters is parameters
    assert model.dtype == np.float64
    with pytest.raises(InvalidInputError, match="buffer"):
        Parameters(config_of(), buffer=buffer[1:])


def test_absent_heads_are_named() -> None:
    with pytest.raises(InvalidInputError, match=r"head: got 'nsp', .* expected one of \['mlm'\].*heads=\('nsp',\)"):
        Parameters(config_of()).linear_head("nsp")
    with pytest.raises(InvalidInputError, match="'mlm'"):
        _ = Parameters(config_of(())).mlm


# --- initial values -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def initial() -> MiniBERT:
    return MiniBERT(ModelConfig(heads=("mlm", "nsp")))


def test_initial_biases_and_layer_norms(initial: MiniBERT) -> None:
    for name, view in initial.parameters.items():
        if view.ndim == 1:
            assert np.all(view == (1.0 if name.startswith("gamma") else 0.0)), name


def test_initial_matrices_are_a_normal_cut_at_two_deviations(initial: MiniBERT) -> None:
    density = math.exp(-2.0) / math.sqrt(2 * math.pi)
    inside = math.erf(math.sqrt(2.0))
    deviation = 0.02 * math.sqrt(1 - 4 * density / inside)
    assert deviation == pytest.approx(0.88 * 0.02, rel=1e-3)
    for name, view in initial.parameters.items():
        if view.ndim == 2:
            n = view.size
            assert np.abs(view).max() <= 0.04 * (1 + 1e-7), name
            assert abs(view.astype(np.float64).mean()) <= 5 * deviation / math.sqrt(n), name
            assert view.astype(np.float64).std() == pytest.approx(deviation, rel=4 / math.sqrt(n)), name
    table = initial.parameters["token_embeddings"]
    for bound in (0.005, 0.02, 0.035):
        expected = math.erf(bound / 0.02 / math.sqrt(2)) / inside
        assert (np.abs(table) <= bound).mean() == pytest.approx(expected, abs=2e-3)
    assert (table > 0).mean() == pytest.approx(0.5, abs=2e-3)


def test_initial_tensors_are_unlike_each_other(initial: MiniBERT) -> None:
    for one, other in (("W_Q_0", "W_K_0"), ("W_Q_0", "W_Q_1"), ("W_O_2", "W_mlm")):
        first, second = initial.parameters[one].ravel(), initial.parameters[other].ravel()
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    rows = initial.parameters["token_embeddings"]
    assert len(np.unique(rows[:, 0])) > 8000


def test_initial_values_are_pinned() -> None:
    """To the bit, over releases: what a seed gave, it gives."""
    model = MiniBERT(config_of())
    digest = hashlib.sha256(model.parameters.buffer.astype("<f4").tobytes()).hexdigest()
    assert digest == "f14f86439d243a961cb01a85d6447b52cd69e248f9176ac02d481080a42bb776"


def test_initial_values_by_loops() -> None:
    """Box and Muller's formula, one element at a time; what lies outside is drawn again from the next step's table."""
    view = MiniBERT(config_of(), dtype=np.float64, seed=5).parameters["W1_0"].ravel()
    stream, missing, redrawn = RandomStream(5, "initialization/W1_0"), list(range(view.size)), 0
    while missing:
        draws = stream.uniform(2, len(missing)).tolist()
        outside = []
        for place, u, v in zip(missing, *draws, strict=True):
            z = math.sqrt(-2 * math.log(1 - u)) * math.cos(2 * math.pi * v)
            if abs(z) > 2:
                outside.append(place)
            else:
                assert view[place] == pytest.approx(0.02 * z, rel=1e-10, abs=1e-16)
        missing, stream = outside, stream._replace(step=stream.step + 1)
        redrawn += len(outside)
    assert redrawn > 0


def test_initial_values_depend_on_seed_name_and_shape_alone() -> None:
    one, same, other = (MiniBERT(config_of(), seed=seed).parameters.buffer for seed in (0, 0, 1))
    assert one.tobytes() == same.tobytes()
    matrices = small_bert().parameters.decayed
    assert np.mean(one[:matrices] == other[:matrices]) < 0.01
    with_nsp = MiniBERT(config_of(("mlm", "nsp"))).parameters
    for name, view in MiniBERT(config_of()).parameters.items():
        np.testing.assert_array_equal(with_nsp[name], view)


def test_initial_range_scales() -> None:
    narrow = MiniBERT(ModelConfig(**{**SHAPE, "initializer_range": 0.01}), dtype=np.float64)
    wide = MiniBERT(ModelConfig(**{**SHAPE, "initializer_range": 0.02}), dtype=np.float64)
    np.testing.assert_allclose(2 * narrow.parameters["W1_0"], wide.parameters["W1_0"], rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_precision_rounds_the_same_values(dtype: type) -> None:
    model = MiniBERT(config_of(), dtype=dtype)
    assert model.dtype == dtype
    expected = MiniBERT(config_of(), dtype=np.float64).parameters.buffer
    np.testing.assert_array_equal(model.parameters.buffer, expected.astype(dtype))
