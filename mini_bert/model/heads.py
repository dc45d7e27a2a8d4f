"""Hidden states → logits: one pair of functions a head, and the table that names them.

    mlm:                         logits = LayerNorm(act(x W + b)) Eᵀ + b_v   (HEAD.1)
    pooler:                      c = tanh(x[CLS] W + b)                      (HEAD.2)
    nsp, sop, classifier:        logits = dropout(c) W + b                   (HEAD.3)
    std, rtd, token_classifier:  logits = dropout(x) W + b                   (HEAD.4)

E is the table of token embeddings: the decoder is tied to it, and its gradient has two parts. The activation is that of
the feed-forward networks, as in BERT. Its next-sentence head has no dropout, its classifiers have; nor have the other
heads of pre-training (sentence order: Lan et al. 2020; shuffled tokens: Panda et al. 2021; replaced tokens: Clark et
al. 2020, whose head has a dense layer more).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from mini_bert.config.schema import ModelConfig
from mini_bert.model import norms
from mini_bert.model.feed_forward import ACTIVATIONS
from mini_bert.model.forward_pass import Pass
from mini_bert.model.norms import norm_backward, norm_forward
from mini_bert.model.parameters import Parameters, add_gradient
from mini_bert.ops import dropout, linear, tanh
from mini_bert.ops.contract import Array, rows_of


class MLMSaved(NamedTuple):
    """What the operations keep, and the decoder's input."""

    dense: linear.Saved
    activation: Any
    norm: norms.Saved
    x: Array


def mlm_forward(x: Array, params: Parameters, config: ModelConfig, run: Pass) -> tuple[Array, MLMSaved]:
    """Return logits [..., V] of hidden states x [..., H] (HEAD.1); any set of rows will do."""
    head = params.mlm
    h, dense_saved = linear.forward(x, head.W, head.b)
    h = run.tap("mlm.pre_activation", h)
    a, activation_saved = ACTIVATIONS[config.hidden_act].forward(h)
    a = run.tap("mlm.activation", a)
    n, norm_saved = norm_forward(a, head.gamma, head.beta, config)
    n = run.tap("mlm.output", n)
    logits = rows_of(n) @ params.embeddings.token_embeddings.T
    logits += head.b_vocabulary
    logits = run.tap("logits", logits.reshape(*x.shape[:-1], config.vocab_size))
    return logits, MLMSaved(dense_saved, activation_saved, norm_saved, n)


def mlm_backward(
    dlogits: Array, saved: MLMSaved, params: Parameters, grads: Parameters, config: ModelConfig, run: Pass
) -> Array:
    """Add the gradients of the head, and of the token embeddings as decoder, to `grads`; return dx [..., H]."""
    dlogits = rows_of(run.tap("logits", dlogits))
    head = grads.mlm
    head.b_vocabulary[...] += dlogits.sum(axis=0)
    grads.embeddings.token_embeddings[...] += dlogits.T @ rows_of(saved.x)
    dn = (dlogits @ params.embeddings.token_embeddings).reshape(saved.x.shape)
    da, dgamma, dbeta = norm_backward(run.tap("mlm.output", dn), saved.norm)
    head.gamma[...] += dgamma
    add_gradient(head.beta, dbeta)
    (dh,) = ACTIVATIONS[config.hidden_act].backward(run.tap("mlm.activation", da), saved.activation)
    dx, dW, db = linear.backward(run.tap("mlm.pre_activation", dh), saved.dense)
    head.W[...] += dW
    add_gradient(head.b, db)
    return dx


class PooledSaved(NamedTuple):
    """What the operations keep, and the shape of the hidden states."""

    shape: tuple[int, ...]
    dense: linear.Saved
    activation: tanh.Saved
    dropout: dropout.Saved
    classifier: linear.Saved


def _pooled(head: str, dropped: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def forward(x_BTH: Array, params: Parameters, config: ModelConfig, run: Pass) -> tuple[Array, PooledSaved]:
        classifier = params.linear_head(head)
        h_BH, dense_saved = linear.forward(x_BTH[:, 0], params.pooler.W, params.pooler.b)
        c_BH, activation_saved = tanh.forward(run.tap("pooler.pre_activation", h_BH))  # (HEAD.2)
        c_BH, dropout_saved = dropout.forward(
            run.tap("pooler.output", c_BH),
            p=config.hidden_dropout_prob if dropped else 0.0,
            stream=None if run.dropout is None else run.dropout.at(head),
            first_row=run.first_row,
            rows=run.pooled,
        )
        logits, classifier_saved = linear.forward(c_BH, classifier.W, classifier.b)  # (HEAD.3)
        saved = PooledSaved(x_BTH.shape, dense_saved, activation_saved, dropout_saved, classifier_saved)
        return run.tap("logits", logits), saved

    def backward(
        dlogits: Array, saved: PooledSaved, params: Parameters, grads: Parameters, config: ModelConfig, run: Pass
    ) -> Array:
        dc_BH, dW, db = linear.backward(run.tap("logits", dlogits), saved.classifier)
        grads.linear_head(head).W[...] += dW
        add_gradient(grads.linear_head(head).b, db)
        (dc_BH,) = dropout.backward(dc_BH, saved.dropout)
        (dh_BH,) = tanh.backward(run.tap("pooler.output", dc_BH), saved.activation)
        dfirst_BH, dW, db = linear.backward(run.tap("pooler.pre_activation", dh_BH), saved.dense)
        grads.pooler.W[...] += dW
        add_gradient(grads.pooler.b, db)
        dx_BTH = np.zeros(saved.shape, dlogits.dtype)
        dx_BTH[:, 0] = dfirst_BH  # only [CLS] was read
        return dx_BTH

    return forward, backward


class TokenSaved(NamedTuple):
    """What the two operations keep."""

    dropout: dropout.Saved | None
    classifier: linear.Saved


def _each_token(head: str, dropped: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def forward(x: Array, params: Parameters, config: ModelConfig, run: Pass) -> tuple[Array, TokenSaved]:
        classifier, dropout_saved = params.linear_head(head), None
        if dropped:
            x, dropout_saved = run.drop(x, config.hidden_dropout_prob, head)
        logits, classifier_saved = linear.forward(x, classifier.W, classifier.b)  # (HEAD.4)
        return run.tap("logits", logits), TokenSaved(dropout_saved, classifier_saved)

    def backward(
        dlogits: Array, saved: TokenSaved, params: Parameters, grads: Parameters, config: ModelConfig, run: Pass
    ) -> Array:
        dx, dW, db = linear.backward(run.tap("logits", dlogits), saved.classifier)
        grads.linear_head(head).W[...] += dW
        add_gradient(grads.linear_head(head).b, db)
        if saved.dropout is not None:
            (dx,) = dropout.backward(dx, saved.dropout)
        return dx

    return forward, backward


HEADS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "mlm": (mlm_forward, mlm_backward),
    "nsp": _pooled("nsp", dropped=False),
    "sop": _pooled("sop", dropped=False),
    "std": _each_token("std", dropped=False),
    "rtd": _each_token("rtd", dropped=False),
    "classifier": _pooled("classifier", dropped=True),
    "token_classifier": _each_token("token_classifier", dropped=True),
}
