"""What does each layer hold of a word? Hidden states of chosen words, in bounded memory.

Layer 0 is what block 0 reads (piece, position and segment embeddings, behind LayerNorm), layer i is what block i − 1
gives; with pre-LN, the last one stands behind the final norm, where heads read. `TOKEN` is the piece's own vector,
which knows nothing of its place or its neighbours.

A word may fall into several pieces. Its vector is that of its first piece, or the mean over all of them:

    h_word = h_first                                                                                (first)
    h_word = 1/n Σ_i h_i                                                                             (mean)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.text_rows import TextRow, padded_batches
from mini_bert.errors import InvalidInputError, NonFiniteError
from mini_bert.model.bert import FLOAT_ERRORS
from mini_bert.model.forward_pass import Pass
from mini_bert.model.inputs import check_inputs

if TYPE_CHECKING:
    from mini_bert.config.schema import ModelConfig
    from mini_bert.data.work import Progress
    from mini_bert.model.bert import MiniBERT
    from mini_bert.text.wordpiece import WordPiece

Floats = NDArray[np.floating]

TOKEN = "embeddings.token"
"""The name of the vectors that a piece has wherever it stands."""

POOLINGS = ("first", "mean")
"""How the pieces of a word become one vector."""

_POSITIONS_AT_ONCE = 2048
"""Of a batch: 60 MiB of intermediates at H = 192 and I = 768, whatever the number of layers."""


class WordRows(NamedTuple):
    """N words in the rows that a model reads, in the order of the sentences."""

    rows: list[TextRow]
    row: NDArray[np.int64]
    """[N] number of the row that a word stands in; ascending"""
    begin: NDArray[np.int64]
    """[N] column of its first piece"""
    pieces: NDArray[np.int64]
    """[N] into how many it falls"""
    sentence: NDArray[np.int64]
    """[N] number of the sentence that it belongs to"""


def state_names(config: ModelConfig) -> tuple[str, ...]:
    """The names that a tap sees of layers 0 to L."""
    L = config.num_hidden_layers
    names = ("embeddings.output", *(f"layer_{i}.output" for i in range(L)))
    return (*names[:-1], "encoder.output") if config.norm_placement == "pre" else names


def word_rows(tokenizer: WordPiece, sentences: Iterable[Sequence[str]], *, length: int) -> WordRows:
    """Lay sentences out in rows `[CLS] … [SEP]` of at most `length` ids, each word by itself.

    No word is lost: a sentence that does not fit goes on in a further row, cut between words; a word of which nothing
    is left (a lone accent) is [UNK]; one with more than `length` − 2 pieces is read as far as it fits.

    Raises:
        InvalidInputError: there is no word, or `length` leaves no room for one.
    """
    room = length - 2
    if room < 1:
        raise InvalidInputError("length", got=length, expected="at least 3: [CLS], a piece, [SEP]")
    rows: list[TextRow] = []
    row, begin, pieces, sentence = [], [], [], []
    for number, words in enumerate(sentences):
        held: list[int] = []
        for word in words:
            ids = tokenizer.encode_ids(word)[:room] or [tokenizer.unk_id]
            if len(held) + len(ids) > room:
                rows.append(TextRow([tokenizer.cls_id, *held, tokenizer.sep_id]))
                held = []
            row.append(len(rows))
            begin.append(1 + len(held))
            pieces.append(len(ids))
            sentence.append(number)
            held += ids
        if held:
            rows.append(TextRow([tokenizer.cls_id, *held, tokenizer.sep_id]))
    if not rows:
        raise InvalidInputError("sentences", got="no word", expected="at least one")
    return WordRows(rows, *(np.array(column, np.int64) for column in (row, begin, pieces, sentence)))


def visit_states(
    model: MiniBERT,
    rows: Sequence[TextRow],
    names: Sequence[str],
    visit: Callable[[str, NDArray[np.int64], Floats], None],
    *,
    pad_id: int,
    progress: Progress | None = None,
) -> None:
    """Run all rows through the encoder and show the intermediates of these names, a batch at a time.

    Args:
        model: any model; its heads are not computed.
        rows: what it reads.
        names: as a tap sees them (docs/guide/inside.md); what is not on the way is never shown.
        visit: called with a name, the numbers [B] of the batch's rows in `rows`, and the array [B, T, …]; the array is
            valid during the call only, and columns behind the end of a row are of no use.
        pad_id: fills rows up to the longest of their batch.
        progress: told how many rows are done.

    Raises:
        InvalidInputError: a row does not fit the model.
        NonFiniteError: an activation overflows.
    """
    wanted = frozenset(names)
    done = 0
    for numbers, batch in padded_batches(rows, pad_id, tokens=_POSITIONS_AT_ONCE):

        def tap(name: str, x: Floats, numbers: NDArray[np.int64] = numbers) -> Floats:
            if name in wanted:
                visit(name, numbers, x)
            return x

        ids, mask, types = check_inputs(model.config, batch.input_ids, batch.attention_mask, batch.token_type_ids)
        try:
            with np.errstate(**FLOAT_ERRORS):
                run = Pass(ids.shape[0], ids.shape[1], mask_BS=mask, tap=tap)
                model.encode_forward(ids, types, run, activation_checkpointing=True)
        except FloatingPointError as error:
            raise NonFiniteError(
                "model", got=f"{error} on the way", expected="weights with which all stays finite"
            ) from error
        done += len(numbers)
        if progress:
            progress("reading hidden states", done, len(rows))


def word_states(
    model: MiniBERT,
    words: WordRows,
    names: Sequence[str],
    poolings: Sequence[str] = POOLINGS,
    *,
    pad_id: int,
    progress: Progress | None = None,
) -> dict[tuple[str, str], Floats]:
    """The vectors of all words: (name, pooling) → [N, H] in the model's dtype.

    Raises:
        InvalidInputError: an unknown name or pooling, or as `visit_states`.
    """
    known = (TOKEN, *state_names(model.config))
    for argument, got, choices in (("names", names, known), ("poolings", poolings, POOLINGS)):
        for name in got:
            if name not in choices:
                raise InvalidInputError(argument, got=repr(name), expected=f"some of {', '.join(choices)}")
    N, H = len(words.row), model.config.hidden_size
    states = {(name, pooling): np.empty((N, H), model.dtype) for name in names for pooling in poolings}
    starts = np.searchsorted(words.row, np.arange(len(words.rows) + 1))

    def visit(name: str, numbers: NDArray[np.int64], x_BTH: Floats) -> None:
        here = np.concatenate([np.arange(starts[number], starts[number + 1]) for number in numbers])
        first = np.repeat(np.arange(len(numbers)), starts[numbers + 1] - starts[numbers]) * x_BTH.shape[1]
        first += words.begin[here]
        x_RH = x_BTH.reshape(-1, H)
        if (name, "first") in states:
            states[name, "first"][here] = x_RH[first]
        if (name, "mean") in states:
            counts = words.pieces[here]
            begins = np.cumsum(counts) - counts
            every = np.repeat(first - begins, counts) + np.arange(counts.sum())
            states[name, "mean"][here] = np.add.reduceat(x_RH[every], begins, axis=0) / counts[:, None]

    visit_states(model, words.rows, names, visit, pad_id=pad_id, progress=progress)
    return states
