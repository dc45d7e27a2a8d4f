"""The calls that users make, as they make them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from small_bert import BATCH, IDS, MASK, TYPES, small_bert

import mini_bert
from mini_bert import (
    Batch,
    MiniBERT,
    MiniBERTGradients,
    ModelConfig,
    WordPiece,
    mask_tokens,
    mlm_cross_entropy,
    stable_softmax,
)
from mini_bert.errors import InvalidInputError


@pytest.fixture(scope="module")
def model() -> MiniBERT:
    return MiniBERT()


def test_forward_and_its_cache(model: MiniBERT) -> None:
    input_ids = np.random.default_rng(0).integers(5, 8192, size=(2, 16))
    logits, cache = model.forward(input_ids)
    assert logits.shape == (2, 16, 8192)
    assert logits.dtype == np.float32
    assert "layer_0.attention.attention_weights" in cache.keys()  # noqa: SIM118  (as users write it)
    assert cache["layer_2.output"].shape == (2, 16, 192)
    with_mask, _ = model.forward(input_ids, attention_mask=np.ones((2, 16)).astype(int), token_type_ids=0 * input_ids)
    np.testing.assert_allclose(with_mask, logits, atol=1e-5)
    hidden, _ = model.encode(input_ids)
    np.testing.assert_array_equal(hidden, cache["layer_2.output"])


@pytest.mark.parametrize("layer", [0, 2])
def test_multi_head_attention(model: MiniBERT, layer: int) -> None:
    x = np.random.randn(2, 16, 192)
    out, attn_cache = model._multi_head_attention(x, layer=layer)
    assert out.shape == (2, 16, 192)
    assert out.dtype == np.float32
    assert set(attn_cache) >= {"Q", "K", "V", "attention_weights", "context"}
    Q, K, V = (attn_cache[letter] for letter in "QKV")
    assert Q.shape == K.shape == V.shape == (2, 4, 16, 48)
    p = model.parameters
    for letter in "QKV":
        projected = (x @ p[f"W_{letter}_{layer}"] + p[f"b_{letter}_{layer}"]).reshape(2, 16, 4, 48)
        np.testing.assert_allclose(attn_cache[letter], projected.transpose(0, 2, 1, 3), atol=1e-5)
    weights = stable_softmax(np.einsum("batk,bask->bats", Q, K) / math.sqrt(48))
    np.testing.assert_allclose(attn_cache["attention_weights"], weights, atol=1e-6)
    context = np.einsum("bats,bask->btak", weights, V).reshape(2, 16, 192)
    np.testing.assert_allclose(attn_cache["context"], context, atol=1e-6)
    np.testing.assert_allclose(out, context @ p[f"W_O_{layer}"] + p[f"b_O_{layer}"], atol=1e-6)
    again, _ = model.multi_head_attention(x, layer)
    np.testing.assert_array_equal(again, out)


def test_multi_head_attention_with_a_mask() -> None:
    model = small_bert()
    _, cache = model.encode(IDS, MASK, TYPES)
    _, attn_cache = model.multi_head_attention(cache["embeddings.output"], attention_mask=MASK)
    for name, array in attn_cache.items():
        np.testing.assert_array_equal(array, cache[f"layer_0.attention.{name}"])


def test_masking_loss_and_gradients(model: MiniBERT) -> None:
    np.random.seed(42)
    batch = np.random.randint(5, 8192, size=(2, 32))
    input_ids, target_ids, mask_pos = mask_tokens(batch, 8192, 4, 0.15)
    np.random.seed(42)
    np.random.randint(5, 8192, size=(2, 32))
    again = mask_tokens(batch, vocab_size=8192, mask_id=4, mask_prob=0.15)
    for one, other in zip((input_ids, target_ids, mask_pos), again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert mask_pos.dtype == bool
    assert 2 <= mask_pos.sum() <= 12
    np.testing.assert_array_equal(target_ids[mask_pos], batch[mask_pos])
    assert np.all(target_ids[~mask_pos] == -100)
    np.testing.assert_array_equal(input_ids[~mask_pos], batch[~mask_pos])

    logits, cache = model.forward(input_ids)
    grads = MiniBERTGradients(model)
    grads.zero_gradients()
    loss, grad_logits = grads.compute_mlm_loss_and_gradients(logits, target_ids, mask_pos)
    grads.backward_from_logits(grad_logits, cache)

    probs = stable_softmax(logits.astype(np.float64))[mask_pos]
    assert loss == pytest.approx(-np.log(probs[np.arange(mask_pos.sum()), batch[mask_pos]]).mean(), rel=1e-6)
    assert (loss, grad_logits.tobytes()) == (
        mlm_cross_entropy(logits, target_ids, mask_pos)[0],
        mlm_cross_entropy(logits, target_ids)[1].tobytes(),
    )
    assert set(grads.gradients) == set(model.parameters)
    for name, gradient in grads.gradients.items():
        assert gradient.shape == model.parameters[name].shape
        assert np.shares_memory(gradient, grads.gradients.buffer)
        assert name.startswith("b_K") or np.abs(gradient).max() > 0

    other = MiniBERT()
    squared_norm = 0.0
    for name, gradient in grads.gradients.items():
        other.parameters[name][...] -= 1e-3 * gradient
        squared_norm += float((gradient.astype(np.float64) ** 2).sum())
    lower, _ = mlm_cross_entropy(other.forward(input_ids)[0], target_ids, mask_pos)
    assert loss - lower == pytest.approx(1e-3 * squared_norm, rel=0.05)


def test_stable_softmax() -> None:
    np.testing.assert_allclose(
        stable_softmax(np.array([1.0, 2.0, 3.0])), [0.09003057, 0.24472847, 0.66524096], rtol=1e-7
    )
    np.testing.assert_array_equal(stable_softmax(np.array([[1e4, -1e4], [-1e4, -1e4]])), [[1, 0], [0.5, 0.5]])


def test_number_of_parameters(model: MiniBERT) -> None:
    assert model.parameters.buffer.size == 2_966_144
    assert sum(array.size for array in model.parameters.values()) == 2_966_144
    both = MiniBERT(ModelConfig(heads=("mlm", "nsp")))
    assert both.parameters.buffer.size == 3_003_586
    assert "2,966,144 parameters, float32" in repr(model)


@pytest.mark.parametrize("seed", [0, 1])
def test_loss_at_initialisation_is_that_of_knowing_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, per_row = 16, 10
    positions = np.concatenate([64 * b + np.sort(rng.choice(64, per_row, replace=False)) for b in range(rows)])
    batch = Batch(rng.integers(5, 8192, (rows, 64)), masked_positions=positions)
    targets = rng.integers(5, 8192, positions.size)
    loss, _ = mlm_cross_entropy(MiniBERT(seed=seed).mlm_logits(batch), targets)
    assert math.log(8192) == pytest.approx(9.011, abs=1e-3)
    assert 9.00 <= loss <= 9.10


def test_names_of_the_package() -> None:
    assert MiniBERT is mini_bert.model.bert.MiniBERT
    assert ModelConfig().hidden_size == 192
    assert set(mini_bert.__all__) <= set(dir(mini_bert))
    with pytest.raises(AttributeError, match="MiniBert"):
        _ = mini_bert.MiniBert


def test_config_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text("model: {hidden_size: 24, num_attention_heads: 2, vocab_size: 300}\n")
    config = ModelConfig.from_yaml(path)
    assert (config.hidden_size, config.head_size, config.vocab_size) == (24, 12, 300)
    assert MiniBERT(config, dtype=np.float64, seed=3).dtype == np.float64


def test_heads_by_name() -> None:
    model = small_bert(heads=("mlm", "nsp", "token_classifier"))
    shapes = {head: model.forward(IDS, MASK, head=head)[0].shape for head in ("mlm", "nsp", "token_classifier")}
    assert shapes == {"mlm": (3, 6, 13), "nsp": (3, 2), "token_classifier": (3, 6, 3)}
    np.testing.assert_array_equal(model.forward(IDS, MASK)[0], model.forward(IDS, MASK, head="mlm")[0])
    assert small_bert(heads=("classifier",)).forward(IDS)[0].shape == (3, 3)


def test_pooler_reads_the_first_token_alone() -> None:
    model = small_bert(heads=("classifier",))
    logits, cache = model.forward(IDS, MASK, TYPES)
    p = model.parameters
    for b in range(3):
        c = np.tanh(cache["layer_1.output"][b, 0] @ p["W_pooler"] + p["b_pooler"])
        np.testing.assert_allclose(cache["pooler.output"][b], c, rtol=1e-13)
        np.testing.assert_allclose(logits[b], c @ p["W_classifier"] + p["b_classifier"], rtol=1e-12)


# --- fill_mask ------------------------------------------------------------------------------------------------------

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "##s", "mat", "on", "."]


@pytest.fixture
def speaking() -> MiniBERT:
    """A model with a tokenizer whose vocabulary leaves one row of the table without a piece."""
    model = small_bert()
    model.tokenizer = WordPiece(PIECES)
    model.parameters["b_vocabulary"][12] = 50.0  # would win, if it stood for anything
    return model


def test_fill_mask(speaking: MiniBERT) -> None:
    ids = [[2, 5, 4, 7, 4, 3]]
    probs = stable_softmax(speaking.forward(ids)[0])[0]
    filled = speaking.fill_mask("The [MASK] sat [MASK]", top_k=3)
    assert len(filled) == 2
    for position, predictions in zip((2, 4), filled, strict=True):
        best = sorted(range(12), key=lambda i: -probs[position, i])[:3]
        assert [prediction.id for prediction in predictions] == best
        assert [prediction.token for prediction in predictions] == [PIECES[i] for i in best]
        np.testing.assert_allclose(
            [prediction.probability for prediction in predictions], probs[position, best], rtol=1e-9
        )
    assert [len(predictions) for predictions in speaking.fill_mask("[MASK]", top_k=12)] == [12]
    assert len(speaking.fill_mask("[MASK]")[0]) == 5


@pytest.mark.parametrize(
    ("text", "top_k", "message"),
    [
        ("the cat", 5, r"text: got 'the cat'; expected at least one \[MASK\]"),
        ("[MASK] the cat sat on the mat .", 5, "text: got 10 pieces with .*; expected at most 7"),
        ("[MASK]", 0, "top_k: got 0; expected 1 to 12"),
        ("[MASK]", 13, "top_k: got 13; expected 1 to 12"),
        ("[MASK]", 1.5, r"top_k: got 1\.5; expected 1 to 12"),
        ("[MASK]", "all", "top_k: got 'all'; expected 1 to 12"),
    ],
)
def test_fill_mask_refuses(speaking: MiniBERT, text: str, top_k: int, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        speaking.fill_mask(text, top_k)


def test_fill_mask_needs_a_tokenizer() -> None:
    with pytest.raises(InvalidInputError, match=r"tokenizer: .*vocab\.txt"):
        small_bert().fill_mask("[MASK]")


def test_gradients_of_a_batch_through_the_public_names() -> None:
    model = small_bert()
    grads = MiniBERTGradients(model)
    loss_sum, n_masked = model.mlm_loss_and_gradients(BATCH, grads)
    assert n_masked == 6
    logits, _ = model.forward(IDS, MASK, TYPES)
    targets = np.full(IDS.shape, -100)
    targets.flat[BATCH.masked_positions] = BATCH.target_ids
    assert loss_sum / n_masked == pytest.approx(mlm_cross_entropy(logits, targets)[0], rel=1e-13)
    assert grads.gradients["W1_0"].any()
