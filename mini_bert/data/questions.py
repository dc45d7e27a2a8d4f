"""Rows → a batch with the questions of all tasks: which positions each asks about, and the right answers.

One pass serves all tasks. First pairs are made (sentence_pairs.py), then tokens are masked, then some of the others
trade places, then some of the rest are replaced (token_tasks.py): no token suffers two of these. `token_order` and
`replaced_token` ask about every real token that is not masked, specials included; a token that the other one has moved
or replaced counts as one that nothing was done to. Where the model itself makes the replacements, it fills the masks,
and a second pass asks about every real token (Clark et al. 2020).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mini_bert.batch import Batch, Question
from mini_bert.data.masking import MaskedRows, Pieces
from mini_bert.data.order import permuted
from mini_bert.data.packing import RowIndex
from mini_bert.data.piece_counts import piece_counts
from mini_bert.data.sentence_pairs import NOT_ASKED, SentencePairs
from mini_bert.data.token_tasks import replace_tokens, shuffle_tokens
from mini_bert.errors import ConfigError, DataError
from mini_bert.random_streams import RandomStream

if TYPE_CHECKING:
    from mini_bert.config.schema import Config, TasksConfig
    from mini_bert.data.tokens import TokenSet
    from mini_bert.text.wordpiece import WordPiece

Mask = Callable[[NDArray[np.int32]], MaskedRows]
"""Hides tokens of rows [B, T]."""

_SHORTEST_PAIR = 5
"""[CLS], two segments of a token, two [SEP]."""


class Questions:
    """What the tasks of a configuration make of rows of a text.

    Fields: `rows`, the row index that row numbers count in.

    Raises:
        ConfigError: pairs of sentences beside a layout, a length or a number of segments that has no room for them.
        DataError: `next_sentence`, and too few documents.
    """

    def __init__(self, token_set: TokenSet, config: Config, tokenizer: WordPiece) -> None:
        self._tasks = tasks = config.tasks
        self._pieces = Pieces.of(tokenizer)
        self._pairs: SentencePairs | None = None
        T = config.model.max_position_embeddings
        if tasks.next_sentence or tasks.sentence_order:
            _require_room_for_pairs(token_set, config)
            self.rows: RowIndex = token_set.rows(T - 1)
            self._pairs = SentencePairs(
                self.rows,
                next_sentence=tasks.next_sentence > 0,
                sentence_order=tasks.sentence_order > 0,
                cls_id=tokenizer.cls_id,
                sep_id=tokenizer.sep_id,
            )
        else:
            self.rows = token_set.rows(T)
        self._by_frequency = tasks.replaced_token > 0 and tasks.replacements == "frequency"
        if self._by_frequency:
            self._counts = piece_counts(token_set, tokenizer)

    def batch(self, numbers: NDArray[np.int64], mask: Mask, stream: RandomStream, first_row: int = 0) -> Batch:
        """The rows of these numbers, with all that is asked about them; row b is number `first_row + b` of the batch.

        `mask` is called where `masked_lm` has a weight; `stream` draws everything else.
        """
        tasks, types, asked_of_rows = self._tasks, None, []
        if self._pairs is None:
            ids = self.rows.read(numbers)
        else:
            pairs = self._pairs.read(numbers, stream.at("pairs"), first_row)
            ids, types = pairs.ids, pairs.types
            for task in ("next_sentence", "sentence_order"):
                answers = getattr(pairs, task)
                rows = np.flatnonzero(answers != NOT_ASKED)
                asked_of_rows.append((task, rows, answers[rows]))
        real = ids != self._pieces.pad_id
        free = ~self._pieces.special[ids]
        masked = mask(ids) if tasks.masked_lm else None
        unmasked = real.copy()
        if masked is not None:
            ids = masked.input_ids
            for places in (free, unmasked):
                places.ravel()[masked.masked_positions] = False
        asked_of_tokens = []
        if tasks.token_order:
            moved = shuffle_tokens(ids, free, tasks.shuffle_share, stream.at("shuffle"), first_row)
            ids, free = moved.ids, free & ~moved.chosen
            asked_of_tokens.append(("token_order", unmasked, moved.differs))
        if self._by_frequency:
            replaced = replace_tokens(ids, free, self._counts, stream.at("replace"), first_row)
            ids = replaced.ids
            asked_of_tokens.append(("replaced_token", unmasked, replaced.differs))
        elif tasks.replaced_token:
            asked_of_tokens.append(("replaced_token", real, np.zeros_like(real)))

        longest = ids.shape[1] if real[:, -1].any() else int(real.sum(axis=1).max())
        asked = [(task, rows * longest, answers) for task, rows, answers in asked_of_rows]
        for task, places, answers in asked_of_tokens:
            positions = np.flatnonzero(places[:, :longest])
            asked.append((task, positions, answers[:, :longest].ravel()[positions].astype(np.int64)))
        batch = Batch(
            np.ascontiguousarray(ids[:, :longest]),
            attention_mask=None if real.all() else np.ascontiguousarray(real[:, :longest]),
            token_type_ids=types,
        )
        if masked is not None:
            row, column = np.divmod(masked.masked_positions, ids.shape[1])
            positions, targets = row * longest + column, masked.target_ids
            asked.insert(0, ("masked_lm", positions, targets))
            batch = batch._replace(masked_positions=positions, target_ids=targets)
            if tasks.replaced_token and not self._by_frequency:
                draws = stream.at("guess").uniform(*ids.shape, first_row=first_row)
                batch = batch._replace(draws=draws.ravel()[masked.masked_positions])
        return batch._replace(
            questions=tuple(
                Question(task, positions, answers, getattr(tasks, task), positions.size)
                for task, positions, answers in asked
                if getattr(tasks, task)
            )
        )


def are_asked(tasks: TasksConfig) -> bool:
    """Whether there is more, or other, to learn than masked language modelling with weight 1."""
    extra = (tasks.next_sentence, tasks.sentence_order, tasks.token_order, tasks.replaced_token)
    return tasks.masked_lm != 1.0 or any(extra)


def held_out_questions(
    token_set: TokenSet, config: Config, tokenizer: WordPiece, mask: Callable[[NDArray[np.int32], int], MaskedRows]
) -> list[Batch]:
    """Batches of held-out rows that the extra tasks are scored on: at most `data.held_out_rows` rows, always the same.

    Which rows, and what is made of them, depends on the text, the tokenizer, the settings of the tasks and
    `evaluation.mask_seed`, not on the run's seed. Empty where masked language modelling alone is learned. `mask` hides
    tokens of rows, the first of which has the number given.

    Raises:
        ConfigError, DataError: as `Questions`.
    """
    if not are_asked(config.tasks):
        return []
    seed, size = config.evaluation.mask_seed, config.evaluation.batch_size
    try:
        questions = Questions(token_set, config, tokenizer)
    except DataError as error:
        if error.argument != "tasks.next_sentence":
            raise
        advice = "Give a text with more documents, or a larger --data.held-out-fraction."
        raise DataError(
            error.argument, got=f"in the held-out text, {error.got}", expected=error.expected, advice=advice
        ) from error
    stream = RandomStream(seed, "held_out/tasks")
    wanted = min(config.data.held_out_rows, len(questions.rows))
    rows = RandomStream(seed, "held_out/rows")
    numbers = np.sort(permuted(len(questions.rows), rows, np.arange(wanted)))
    return [
        questions.batch(numbers[first : first + size], lambda ids, first=first: mask(ids, first), stream, first)
        for first in range(0, wanted, size)
    ]


def _require_room_for_pairs(token_set: TokenSet, config: Config) -> None:
    model = config.model
    if token_set.layout != "packed":
        raise ConfigError(
            "data.layout",
            got=f"{token_set.layout} beside tasks.next_sentence or tasks.sentence_order",
            expected="packed: pairs are cut out of running text",
        )
    if model.type_vocab_size < 2:
        raise ConfigError(
            "model.type_vocab_size",
            got=f"{model.type_vocab_size} beside tasks.next_sentence or tasks.sentence_order",
            expected="2, a segment each for A and B",
        )
    if model.max_position_embeddings < _SHORTEST_PAIR:
        raise ConfigError(
            "model.max_position_embeddings",
            got=f"{model.max_position_embeddings} beside tasks.next_sentence or tasks.sentence_order",
            expected=f"at least {_SHORTEST_PAIR}: two segments and three special tokens",
        )
