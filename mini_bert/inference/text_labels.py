"""Which class has a text, or which score? The classifier's outputs for many texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.text_rows import TextRow, padded_batches, text_row
from mini_bert.errors import NonFiniteError
from mini_bert.inference.tokenizer_of import tokenizer_of
from mini_bert.model.bert import FLOAT_ERRORS
from mini_bert.model.forward_pass import Pass, Reading
from mini_bert.model.heads import HEADS

if TYPE_CHECKING:
    from mini_bert.model.bert import MiniBERT

Told = Callable[[int], None]


def label_scores(
    model: MiniBERT, texts: Sequence[tuple[str, str | None]], told: Told = lambda done: None
) -> NDArray[np.float64]:
    """The classifier's outputs [n, C] for texts, or pairs of texts: logits, or scores where C = 1.

    Of the last block only the first token's row is computed. Texts that are too long are cut.

    Args:
        model: with a tokenizer and the head `classifier`.
        texts: each with its second text, or None.
        told: how many are done.

    Raises:
        InvalidInputError: the model lacks the head or a tokenizer.
        NonFiniteError: it overflows.
    """
    model.parameters.require_head("classifier")
    tokenizer, config = tokenizer_of(model), model.config
    length = config.max_position_embeddings
    rows: list[TextRow] = [text_row(tokenizer, text, pair, length=length) for text, pair in texts]
    found, done = np.empty((len(rows), config.num_labels)), 0
    for numbers, batch in padded_batches(rows, tokenizer.pad_id):
        B, T = batch.input_ids.shape
        run = Pass(B, T, batch.attention_mask)
        try:
            with np.errstate(**FLOAT_ERRORS):
                read = Reading.of(np.arange(0, B * T, T), B, T)
                x_BH, _ = model.encode_forward(batch.input_ids, batch.token_type_ids, run, read)
                found[numbers] = HEADS["classifier"][0](x_BH[:, None], model.parameters, config, run)[0]
        except FloatingPointError as error:
            raise NonFiniteError(
                "model", got=f"{error} on the way to the labels", expected="weights with which all stays finite"
            ) from error
        done += B
        told(done)
    return found
