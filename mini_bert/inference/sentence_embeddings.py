"""A vector for a text: what its pieces' hidden states have in common, and which other texts are near.

Of a row [CLS] p_1 … p_n [SEP] with hidden states h_t at some layer:

    mean     Σ_t h_t / n        over the n pieces, [CLS] and [SEP] left out
    max      max_t h_t          each number by itself, over the same pieces
    cls      h_[CLS]
    static   Σ_t E[p_t] / n     E: the table of token embeddings; no context, no position, no order

Of several layers the mean is taken. Reimers and Gurevych (2019, arXiv:1908.10084) compare the first three; their mean
includes [CLS] and [SEP]. A masked language model is not trained to put like texts near each other: cosines of its
hidden states are all high, and only their order means something (Ethayarajh 2019, arXiv:1909.00512).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mini_bert.data.text_rows import TextRow, text_row
from mini_bert.errors import InvalidInputError
from mini_bert.inference.hidden_states import Floats, state_names, visit_states
from mini_bert.inference.tokenizer_of import tokenizer_of

if TYPE_CHECKING:
    from mini_bert.model.bert import MiniBERT

Pooling = Literal["mean", "cls", "max", "static"]
POOLINGS: tuple[str, ...] = get_args(Pooling)

_COSINES_AT_ONCE = 1 << 22
"""Cosines held at a time by `nearest`: 16 MiB of float32."""


def sentence_embeddings(
    model: MiniBERT,
    texts: Sequence[str],
    *,
    pooling: Pooling = "mean",
    layers: Sequence[int] = (-1,),
    normalized: bool = False,
) -> Floats:
    """Vectors [N, H] of N texts, in their order; a text of more than T ids is cut.

    Args:
        model: with a tokenizer.
        texts: each with at least one piece.
        pooling: see above.
        layers: 0 is the embeddings' output, i the output of block i, -1 the last; the mean over them is taken.
        normalized: to length 1; a vector of zeros stays one.

    Raises:
        InvalidInputError: no tokenizer, a text without a piece, or a pooling or layer that there is not.
        NonFiniteError: the weights are so large that an activation overflows.
    """
    vectors = layer_embeddings(model, texts, pooling=pooling, layers=layers).mean(axis=0)
    return unit_vectors(vectors) if normalized else vectors


def layer_embeddings(
    model: MiniBERT, texts: Sequence[str], *, pooling: Pooling = "mean", layers: Sequence[int] | None = None
) -> Floats:
    """As `sentence_embeddings`, each layer by itself: [layers, N, H]; by default all of them, 0 to L."""
    asked = range(model.config.num_hidden_layers + 1) if layers is None else layers
    if not len(asked):
        raise InvalidInputError("layers", got="none", expected="at least one")
    if pooling == "static":
        asked = (0,)
    found = pooled_embeddings(model, texts, [(pooling, layer) for layer in asked])
    return np.array([found[pooling, layer] for layer in asked])


def pooled_embeddings(
    model: MiniBERT, texts: Sequence[str], kinds: Sequence[tuple[Pooling, int]]
) -> dict[tuple[Pooling, int], Floats]:
    """Several kinds of vectors in one pass over the texts: (pooling, layer) → [N, H]; of `static` any layer will do.

    Raises:
        InvalidInputError, NonFiniteError: as `sentence_embeddings`.
    """
    L, H = model.config.num_hidden_layers, model.config.hidden_size
    for pooling, layer in kinds:
        if pooling not in POOLINGS:
            raise InvalidInputError("pooling", got=repr(pooling), expected=" or ".join(POOLINGS))
        if not -L - 1 <= layer <= L:
            raise InvalidInputError("layers", got=layer, expected=f"0 (embeddings) to {L}, or -1 for the last")
    rows = _rows(model, texts)
    found: dict[tuple[Pooling, int], Floats] = {kind: np.empty((len(rows), H), model.dtype) for kind in kinds}
    names = state_names(model.config)
    by_name: dict[str, list[tuple[Pooling, int]]] = {}
    for pooling, layer in found:
        if pooling == "static":
            table = model.parameters["token_embeddings"]
            for number, row in enumerate(rows):
                found[pooling, layer][number] = table[np.asarray(row.ids[1:-1])].mean(axis=0)
        else:
            by_name.setdefault(names[layer], []).append((pooling, layer))
    lengths = np.array([len(row.ids) for row in rows], np.int64)

    def visit(name: str, numbers: NDArray[np.int64], states_BTH: Floats) -> None:
        for kind in by_name[name]:
            found[kind][numbers] = _pooled(states_BTH, lengths[numbers], kind[0])

    if by_name:
        visit_states(model, rows, list(by_name), visit, pad_id=tokenizer_of(model).pad_id)
    return found


def unit_vectors(vectors: ArrayLike) -> Floats:
    """Vectors [..., H] at length 1; those of zeros stay."""
    values = np.asarray(vectors)
    lengths = np.sqrt((values * values).sum(axis=-1, keepdims=True))
    return np.asarray(values / np.where(lengths > 0, lengths, 1), values.dtype)


def unrelated_distances(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """1 − cosine [N] of vectors [N, H] and those half the set on, which have nothing to do with them.

    Neighbours in published sets are often made of one sentence, so the next vector would be too near.
    """
    return 1 - cosines(first, np.roll(second, -(len(second) // 2), axis=0))


def cosines(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Cosine [N] of each vector in `first` [N, H] with the one at its place in `second` [N, H].

    Raises:
        InvalidInputError: the shapes differ.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape != b.shape or a.ndim != 2:
        raise InvalidInputError("second", got=list(b.shape), expected=f"[N, H], as the first has: {list(a.shape)}")
    return (unit_vectors(a) * unit_vectors(b)).sum(axis=1)


def nearest(queries: ArrayLike, among: ArrayLike, k: int) -> tuple[NDArray[np.int64], Floats]:
    """Of Q vectors the k nearest among N by cosine: their numbers [Q, k] and cosines [Q, k], nearest first.

    Of equal cosines the smaller number comes first. Memory is bounded, whatever Q.

    Raises:
        InvalidInputError: k is not from 1 to N, or the vectors have not the same length.
    """
    q, n = unit_vectors(queries), unit_vectors(among)
    if q.ndim != 2 or n.ndim != 2 or q.shape[1] != n.shape[1]:
        raise InvalidInputError("among", got=list(n.shape), expected=f"[N, H] with the H of {list(q.shape)}")
    if not 1 <= k <= len(n):
        raise InvalidInputError("k", got=k, expected=f"1 to {len(n)}, the number of vectors to choose from")
    block = max(1, _COSINES_AT_ONCE // len(n))
    numbers = np.empty((len(q), k), np.int64)
    found = np.empty((len(q), k), np.result_type(q, n))
    for start in range(0, len(q), block):
        near = q[start : start + block] @ n.T
        best = np.argsort(-near, axis=1, kind="stable")[:, :k]
        numbers[start : start + block] = best
        found[start : start + block] = np.take_along_axis(near, best, axis=1)
    return numbers, found


def _rows(model: MiniBERT, texts: Sequence[str]) -> list[TextRow]:
    tokenizer = tokenizer_of(model)
    if isinstance(texts, str):
        raise InvalidInputError("texts", got="one string", expected="a list of texts")
    rows = [text_row(tokenizer, text, length=model.config.max_position_embeddings) for text in texts]
    empty = next((number for number, row in enumerate(rows) if len(row.ids) <= 2), None)
    if empty is not None:
        raise InvalidInputError("texts", got=f"no piece in text {empty}: {texts[empty]!r:.60}", expected="words")
    if rows and max(max(row.ids) for row in rows) >= model.config.vocab_size:
        got = f"a tokenizer of {tokenizer.vocab_size} pieces"
        raise InvalidInputError("model", got=got, expected=f"at most the {model.config.vocab_size} that it knows")
    return rows


def _pooled(states_BTH: Floats, lengths_B: NDArray[np.int64], pooling: Pooling) -> Floats:
    if pooling == "cls":
        return states_BTH[:, 0]
    places_T = np.arange(states_BTH.shape[1])
    inner_BT = (places_T > 0) & (places_T < lengths_B[:, None] - 1)
    if pooling == "max":
        return np.asarray(np.where(inner_BT[:, :, None], states_BTH, -np.inf).max(axis=1))
    return np.asarray((states_BTH * inner_BT[:, :, None]).sum(axis=1) / (lengths_B - 2)[:, None])
