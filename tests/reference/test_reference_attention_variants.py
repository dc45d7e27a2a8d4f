"""Positions in attention and its gate beside the implementations that others use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mini_bert.config.schema import ModelConfig
from mini_bert.model.bert import MiniBERT
from mini_bert.model.gradients import MiniBERTGradients
from mini_bert.ops import alibi, relative_bias, relative_keys, rotary
from mini_bert.ops.contract import Array
from mini_bert.verification.gradient_check import gradient_errors

pytestmark = pytest.mark.reference

SHAPE: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 16,
}
IDS = np.random.default_rng(1).integers(0, 40, (3, 9))
MASK = np.arange(9) < np.array([9, 6, 4])[:, None]
TYPES = np.random.default_rng(2).integers(0, 2, (3, 9))


def model_of(**settings: Any) -> MiniBERT:
    model = MiniBERT(ModelConfig(**SHAPE, **settings), dtype=np.float64)
    model.parameters.buffer[...] += 0.2 * np.random.default_rng(0).normal(size=model.parameters.buffer.size)
    return model


def test_a_bert_with_rotary_positions_is_roformer() -> None:
    """The whole model of the paper: logits, and the gradient of every parameter."""
    import torch
    from transformers import RoFormerConfig, RoFormerForMaskedLM

    model = model_of(position_embedding_type="rotary")
    config = RoFormerConfig(
        **{**SHAPE, "embedding_size": SHAPE["hidden_size"]},
        type_vocab_size=2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        hidden_act="gelu",
        attn_implementation="eager",
    )
    theirs = RoFormerForMaskedLM(config).double().eval()
    rows = {row.name: row for row in model.parameters.table}
    theirs_by_name = dict(theirs.named_parameters())

    def name_of(ours: str) -> str:
        return rows[ours].hugging_face.replace("bert.", "roformer.", 1)

    with torch.no_grad():
        for ours, value in model.parameters.items():
            tensor = torch.from_numpy(value.T.copy() if rows[ours].transposed else value)
            theirs_by_name[name_of(ours)].copy_(tensor)
        # angles in float64: theirs are computed in float32
        positions = theirs.roformer.encoder.embed_positions
        angles = np.arange(16)[:, None] * 10000.0 ** (-np.arange(0, 8, 2) / 8)
        positions.weight = torch.nn.Parameter(torch.from_numpy(np.concatenate([np.sin(angles), np.cos(angles)], -1)))

    inputs = {"input_ids": IDS, "attention_mask": MASK.astype(np.int64), "token_type_ids": TYPES}
    expected = theirs(**{name: torch.from_numpy(value) for name, value in inputs.items()}).logits
    logits, cache = model.forward(IDS, MASK, TYPES)
    np.testing.assert_allclose(logits[MASK], expected.detach().numpy()[MASK], rtol=1e-10, atol=1e-10)

    cotangent = np.random.default_rng(3).normal(size=logits.shape) * MASK[:, :, None]
    grads = MiniBERTGradients(model)
    grads.backward_from_logits(cotangent, cache)
    (expected * torch.from_numpy(cotangent)).sum().backward()
    found = {ours: theirs_by_name[name_of(ours)].grad.numpy() for ours in rows}
    turned = {ours: grad.T if rows[ours].transposed else grad for ours, grad in found.items()}
    for error in gradient_errors(grads.gradients, turned):
        assert error.error <= 1e-10, error


def test_llama_pairs_columns_otherwise_and_scores_alike() -> None:
    import torch
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    q, k = np.random.default_rng(0).normal(size=(2, 2, 3, 7, 8))
    angles = np.arange(7)[:, None] * 10000.0 ** (-np.arange(0, 8, 2) / 8)
    cos, sin = (torch.from_numpy(np.tile(f(angles), (1, 2)))[None] for f in (np.cos, np.sin))
    halves = np.concatenate([np.arange(0, 8, 2), np.arange(1, 8, 2)])  # column 2 k to k, column 2 k + 1 to k + 4
    theirs = apply_rotary_pos_emb(*(torch.from_numpy(x[..., halves].copy()) for x in (q, k)), cos, sin)
    ours = [rotary.forward(x, positions=np.arange(7))[0] for x in (q, k)]
    for one, two in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one[..., halves], two.numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        ours[0] @ ours[1].swapaxes(-1, -2), (theirs[0] @ theirs[1].swapaxes(-1, -2)).numpy(), rtol=1e-11, atol=1e-11
    )


@pytest.mark.parametrize(("buckets", "max_distance"), [(32, 128), (8, 20), (64, 300), (16, 100), (4, 8)])
def test_buckets_and_biases_are_those_of_t5(buckets: int, max_distance: int) -> None:
    import torch
    from transformers import T5Config
    from transformers.models.t5.modeling_t5 import T5Attention

    distances = np.arange(-400, 401)
    expected = T5Attention._relative_position_bucket(torch.from_numpy(distances), True, buckets, max_distance)
    np.testing.assert_array_equal(relative_bias.bucket(distances, buckets, max_distance), expected.numpy())

    settings = {"relative_attention_num_buckets": buckets, "relative_attention_max_distance": max_distance}
    config = T5Config(d_model=12, d_kv=4, num_heads=3, is_decoder=False, **settings)
    theirs = T5Attention(config, has_relative_attention_bias=True).double()
    E = np.random.default_rng(0).normal(size=(buckets, 3))
    with torch.no_grad():
        theirs.relative_attention_bias.weight.copy_(torch.from_numpy(E))
    bias = theirs.compute_bias(11, 11)
    N, saved = relative_bias.forward(E, keys=11, max_distance=max_distance)
    np.testing.assert_array_equal(N, bias.detach().numpy())
    dN = np.random.default_rng(1).normal(size=N.shape)
    (bias * torch.from_numpy(dN)).sum().backward()
    np.testing.assert_allclose(
        relative_bias.backward(dN, saved)[0], theirs.relative_attention_bias.weight.grad.numpy(), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 6, 7, 8, 12, 16, 20])
def test_linear_biases_are_those_of_bloom(heads: int) -> None:
    """Theirs is m s, which is −m (t − s) but for what all keys of a query have in common."""
    import torch
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    theirs = build_alibi_tensor(torch.ones(1, 9), heads, torch.float64).numpy().reshape(heads, 9)
    np.testing.assert_allclose(alibi.slopes(heads), theirs[:, 1], rtol=1e-6)
    ours = alibi.bias(heads, 9)[0]
    for t in range(9):
        back = ours[:, t, : t + 1]
        np.testing.assert_allclose(back - back[:, :1], theirs[:, : t + 1], rtol=1e-6)


def test_keys_of_distances_are_those_of_wav2vec2_bert() -> None:
    """The `relative_key` that is left in transformers; its table counts from key to query, BERT's did the other way."""
    import torch
    from transformers import Wav2Vec2BertConfig
    from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import Wav2Vec2BertSelfAttention

    settings = {"left_max_position_embeddings": 15, "right_max_position_embeddings": 15, "attention_dropout": 0.0}
    config = Wav2Vec2BertConfig(
        hidden_size=24, num_attention_heads=3, position_embeddings_type="relative_key", **settings
    )
    theirs = Wav2Vec2BertSelfAttention(config).double().eval()
    model = model_of(position_embedding_type="relative_key")
    params = model.parameters.layers[1].attention
    with torch.no_grad():
        for letter, part in zip("qkv", range(3), strict=True):
            linear = getattr(theirs, f"linear_{letter}")
            linear.weight.copy_(torch.from_numpy(params.W_QKV[part].T.copy()))
            linear.bias.copy_(torch.from_numpy(params.b_QKV[part]))
        theirs.linear_out.weight.copy_(torch.from_numpy(params.W_O.T.copy()))
        theirs.linear_out.bias.copy_(torch.from_numpy(params.b_O))
        theirs.distance_embedding.weight.copy_(torch.from_numpy(params.relative_keys[::-1].copy()))
    x = np.random.default_rng(5).normal(size=(2, 9, 24))
    expected = theirs(torch.from_numpy(x))[0]
    np.testing.assert_allclose(model.multi_head_attention(x, 1)[0], expected.detach().numpy(), rtol=1e-11, atol=1e-11)

    Q = np.random.default_rng(6).normal(size=(2, 3, 9, 8))
    N, saved = relative_keys.forward(Q, params.relative_keys, keys=9)
    dN = np.random.default_rng(7).normal(size=N.shape)
    table = torch.from_numpy(params.relative_keys.copy()).requires_grad_()
    queries = torch.from_numpy(Q).requires_grad_()
    distances = torch.arange(9)[:, None] - torch.arange(9)
    scores = torch.einsum("bhld,lrd->bhlr", queries, table[distances + 15]) / 8**0.5
    (scores * torch.from_numpy(dN)).sum().backward()
    dQ, dE = relative_keys.backward(dN, saved)
    np.testing.assert_allclose(dQ, queries.grad.numpy(), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(dE, table.grad.numpy(), rtol=1e-11, atol=1e-12)


def test_a_gate_for_each_number_is_that_of_qwen3_next() -> None:
    """By the authors of the paper; their norms of queries and keys, which are not ours, are taken out."""
    import torch
    from transformers import Qwen3NextConfig
    from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextAttention

    config = Qwen3NextConfig(
        hidden_size=24, num_attention_heads=3, num_key_value_heads=3, head_dim=8, attention_bias=True
    )
    config._attn_implementation = "sdpa"  # in float64, where theirs written out has its softmax in float32
    theirs = Qwen3NextAttention(config, layer_idx=0).double().eval()
    theirs.is_causal = False
    theirs.q_norm = theirs.k_norm = torch.nn.Identity()
    model = model_of(attention_gate="element")
    params = model.parameters.layers[0].attention
    gate = params.gate

    def beside(left: Array, right: Array) -> Any:
        """Head by head: the columns of the query, then those of the gate."""
        parts = [part.reshape(-1, 3, 8) for part in (left, right)]
        return torch.from_numpy(np.concatenate(parts, axis=-1).reshape(-1, 48).T.copy())

    with torch.no_grad():
        theirs.q_proj.weight.copy_(beside(params.W_Q, gate.W))
        theirs.q_proj.bias.copy_(beside(params.b_QKV[:1], gate.b[None])[:, 0])
        for part, linear in ((1, theirs.k_proj), (2, theirs.v_proj)):
            linear.weight.copy_(torch.from_numpy(params.W_QKV[part].T.copy()))
            linear.bias.copy_(torch.from_numpy(params.b_QKV[part]))
        theirs.o_proj.weight.copy_(torch.from_numpy(params.W_O.T.copy()))
        theirs.o_proj.bias.copy_(torch.from_numpy(params.b_O))
    x = np.random.default_rng(5).normal(size=(2, 9, 24))
    unturned = torch.ones(1, 9, 8, dtype=torch.float64), torch.zeros(1, 9, 8, dtype=torch.float64)
    expected = theirs(torch.from_numpy(x), unturned, None)[0].detach().numpy()
    np.testing.assert_allclose(model.multi_head_attention(x, 0)[0], expected, rtol=1e-11, atol=1e-11)
