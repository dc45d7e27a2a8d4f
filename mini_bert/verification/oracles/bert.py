"""The whole BERT by loops (Devlin et al. 2019), with every head and the masked-language-model loss.

Parameters are nested lists. Everything is computed at every position, and the loss picks what it reads: the saving in
the last block, which the model makes, is not made here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mini_bert.config.schema import ModelConfig
from mini_bert.verification.oracles import operations as oracle
from mini_bert.verification.oracles import positions
from mini_bert.verification.oracles.operations import Nested
from mini_bert.verification.oracles.scalars import Number, dot
from mini_bert.verification.oracles.scalars import total as scalar_total

Hidden = Any
"""[B][T][H]"""

ACTIVATIONS = {"gelu": oracle.gelu, "gelu_new": oracle.gelu_new, "relu": oracle.relu}


class Conditions(NamedTuple):
    """What every layer reads besides its parameters."""

    config: ModelConfig
    parameters: Mapping[str, Nested]
    mask: list[list[bool]] | None
    dropout: Any
    first_row: int


def masked_lm(
    config: ModelConfig,
    parameters: Mapping[str, Nested],
    input_ids: list[list[int]],
    masked_positions: list[int],
    target_ids: list[int],
    *,
    attention_mask: list[list[bool]] | None = None,
    token_type_ids: list[list[int]] | None = None,
    dropout: Any = None,
    first_row: int = 0,
) -> tuple[Number, Nested]:
    """The summed loss at the masked positions b * T + t, and the logits [B][T][V] everywhere."""
    run = Conditions(config, parameters, attention_mask, dropout, first_row)
    logits = head_logits(run, "mlm", hidden_states(run, input_ids, token_type_ids))
    tokens = len(input_ids[0])
    read = [logits[position // tokens][position % tokens] for position in masked_positions]
    return oracle.cross_entropy(read, targets=target_ids), logits


def hidden_states(run: Conditions, ids: list[list[int]], types: list[list[int]] | None) -> Hidden:
    """Embeddings, then block after block."""
    x = embeddings(run, ids, types)
    for layer in range(run.config.num_hidden_layers):
        x = (pre_norm_block if run.config.norm_placement == "pre" else block)(run, x, layer)
    return _normalise(run, x, "_final") if run.config.norm_placement == "pre" else x


def head_logits(run: Conditions, head: str, x: Hidden) -> Nested:
    """The logits of a head: `mlm` [B][T][V], of tokens [B][T][labels], of rows [B][labels]."""
    if head == "mlm":
        return decode(run, x)
    if head in ("std", "rtd"):
        return _affine(run, x, f"_{head}")
    if head == "token_classifier":
        return _affine(run, _drop(run, x, head), "_token_classifier")
    pooled = oracle.tanh(_affine(run, [row[0] for row in x], "_pooler"))
    if head == "classifier" and run.dropout is not None:
        p, stream = run.config.hidden_dropout_prob, run.dropout.at(head)
        pooled = oracle.dropout(pooled, p=p, stream=stream, first_row=run.first_row)
    return _affine(run, pooled, f"_{head}")


HEADS_OF_TASKS = {
    "masked_lm": "mlm",
    "next_sentence": "nsp",
    "sentence_order": "sop",
    "token_order": "std",
    "replaced_token": "rtd",
    "classification": "classifier",
    "regression": "classifier",
}


def task_loss(run: Conditions, task: str, x: Hidden, positions: list[int], labels: list[int]) -> Number:
    """The summed loss of a task at positions b * T + t; what is asked about a row is asked at its first token."""
    logits, tokens = head_logits(run, HEADS_OF_TASKS[task], x), len(x[0])
    if HEADS_OF_TASKS[task] in ("nsp", "sop", "classifier"):
        read = [logits[position // tokens] for position in positions]
    else:
        read = [logits[position // tokens][position % tokens] for position in positions]
    if task == "regression":
        return oracle.squared_error(read, targets=labels)
    return oracle.cross_entropy(read, targets=labels)


def embeddings(run: Conditions, ids: list[list[int]], types: list[list[int]] | None) -> Hidden:
    """Token and segment embedding of every token, and that of its position where there is one, added and normalised."""
    tokens, segments = run.parameters["token_embeddings"], run.parameters["segment_embeddings"]
    places = run.parameters.get("position_embeddings")

    def added(b: int, t: int) -> list[Number]:
        token, segment = tokens[ids[b][t]], segments[types[b][t] if types else 0]
        named = [token, segment] if places is None else [token, segment, places[t]]
        return [scalar_total(row[h] for row in named) for h in range(_H(run))]

    total = [[added(b, t) for t in range(len(ids[b]))] for b in range(len(ids))]
    return _drop(run, _normalise(run, total, "_embeddings"), "embeddings")


def block(run: Conditions, x: Hidden, layer: int) -> Hidden:
    """Attention, then the feed-forward network; each dropped out, added to its input and normalised."""
    name = f"layer_{layer}"
    attended = _drop(run, multi_head_attention(run, x, layer), f"{name}.attention")
    u = _normalise(run, _add(x, attended), f"1_{layer}")
    forwarded = _drop(run, feed_forward(run, u, layer), f"{name}.feed_forward")
    return _normalise(run, _add(u, forwarded), f"2_{layer}")


def pre_norm_block(run: Conditions, x: Hidden, layer: int) -> Hidden:
    """Attention of the normalised stream is added to the stream, and then the feed-forward network's output is."""
    name = f"layer_{layer}"
    attended = multi_head_attention(run, _normalise(run, x, f"1_{layer}"), layer)
    u = _add(x, _drop(run, attended, f"{name}.attention"))
    forwarded = feed_forward(run, _normalise(run, u, f"2_{layer}"), layer)
    return _add(u, _drop(run, forwarded, f"{name}.feed_forward"))


def feed_forward(run: Conditions, u: Hidden, layer: int) -> Hidden:
    """Wider, through the activation, perhaps times a second, linear map of the same input, and narrow again."""
    inner = ACTIVATIONS[run.config.hidden_act](_affine(run, u, f"1_{layer}"))
    if run.config.feed_forward == "gated":
        inner = _multiply(inner, _affine(run, u, f"3_{layer}"))
    return _affine(run, inner, f"2_{layer}")


def multi_head_attention(run: Conditions, x: Hidden, layer: int) -> Hidden:
    """Every head attends with its own K of the H columns; the heads' contexts stand side by side again."""
    heads, width = run.config.num_attention_heads, run.config.head_size
    Q, K, V = (_affine(run, x, f"_{letter}_{layer}") for letter in "QKV")
    split = [
        [[[row[a * width : (a + 1) * width] for row in rows] for a in range(heads)] for rows in projected]
        for projected in (Q, K, V)
    ]
    if run.config.position_embedding_type == "rotary":
        places, theta = list(range(len(x[0]))), run.config.rope_theta
        split[:2] = [positions.rotary(projected, positions=places, theta=theta) for projected in split[:2]]
    context = oracle.attention(
        *split,
        _position_bias(run, split[0], layer),
        mask_BS=run.mask,
        p=run.config.attention_probs_dropout_prob,
        stream=run.dropout and run.dropout.at(f"layer_{layer}.attention.attention_weights"),
        first_row=run.first_row * heads * len(x[0]),
    )
    joined = [
        [[value for a in range(heads) for value in context[b][a][t]] for t in range(len(x[b]))] for b in range(len(x))
    ]
    if run.config.attention_gate != "none":
        joined = positions.gate(joined, oracle.sigmoid(_affine(run, x, f"_G_{layer}")))
    return _affine(run, joined, f"_O_{layer}")


def _position_bias(run: Conditions, Q: Nested, layer: int) -> Nested:
    """What is added to the scores: for each row of the batch, or once for all."""
    kind, tokens = run.config.position_embedding_type, len(Q[0][0])
    if kind == "t5_bias":
        reach = run.config.relative_attention_max_distance
        return positions.relative_bias(run.parameters["relative_bias"], keys=tokens, max_distance=reach)
    if kind == "relative_key":
        return positions.relative_keys(Q, run.parameters[f"relative_keys_{layer}"], keys=tokens)
    return [positions.alibi(len(Q[0]), tokens)] if kind == "alibi" else None


def decode(run: Conditions, x: Hidden) -> Nested:
    """The head: dense, activation, LayerNorm, inner product with the embedding of every piece, plus its bias."""
    activation = ACTIVATIONS[run.config.hidden_act]
    n = _normalise(run, activation(_affine(run, x, "_mlm")), "_mlm")
    table, bias = run.parameters["token_embeddings"], run.parameters["b_vocabulary"]

    def scores(row: list[Number]) -> list[Number]:
        return [dot(row, table[v]) + bias[v] for v in range(len(table))]

    return oracle.each_row(scores, n)


def _H(run: Conditions) -> int:
    return run.config.hidden_size


def _affine(run: Conditions, x: Nested, suffix: str) -> Nested:
    return oracle.linear(x, run.parameters[f"W{suffix}"], run.parameters.get(f"b{suffix}"))


def _normalise(run: Conditions, x: Nested, suffix: str) -> Nested:
    gamma, beta = run.parameters[f"gamma{suffix}"], run.parameters.get(f"beta{suffix}")
    if run.config.norm == "rms_norm":
        return oracle.rms_norm(x, gamma, eps=run.config.layer_norm_eps)
    return oracle.layer_norm(x, gamma, beta, eps=run.config.layer_norm_eps)


def _add(x: Nested, y: Nested) -> Nested:
    if isinstance(x, list):
        return [_add(left, right) for left, right in zip(x, y, strict=True)]
    return x + y


def _multiply(x: Nested, y: Nested) -> Nested:
    if isinstance(x, list):
        return [_multiply(left, right) for left, right in zip(x, y, strict=True)]
    return x * y


def _drop(run: Conditions, x: Hidden, site: str) -> Hidden:
    if run.dropout is None:
        return x
    p = run.config.hidden_dropout_prob
    return oracle.dropout(x, p=p, stream=run.dropout.at(site), first_row=run.first_row * len(x[0]))
