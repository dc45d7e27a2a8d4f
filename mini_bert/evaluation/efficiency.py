"""What does it cost? Parameters, arithmetic and time, to be set beside what the model can do.

Arithmetic is that of the matrix products (`mini_bert.model.matrix_products`): of encoding a token, and of the whole
training where its steps are known. Time is the median over blocks of rows, of encoding with as many threads as asked
for; it belongs to the machine and its moment, all else to the model.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import TYPE_CHECKING, Any

from mini_bert.batch import Batch
from mini_bert.data.masking_rate import scheduled_rate
from mini_bert.errors import InvalidInputError
from mini_bert.machine import available_cores, processor_name
from mini_bert.model.matrix_products import forward_flops, step_flops

if TYPE_CHECKING:
    from mini_bert.config.schema import Config
    from mini_bert.model.bert import MiniBERT

_ROWS_AT_ONCE = 16
_BLOCKS = 9


def measure_efficiency(
    model: MiniBERT,
    batches: Sequence[Batch],
    config: Config | None = None,
    *,
    steps_done: int | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """Parameters, multiplications and additions a token, and tokens encoded a second.

    Args:
        model: any.
        batches: rows to encode; a few hundred are enough.
        config: of its run; with `train.steps` in it, the arithmetic of the training is known too.
        steps_done: of that run, when it was at this model; None: all of them.
        threads: that encode side by side; by default one a core.

    Returns:
        Plain values for JSON, of kind `efficiency`.

    Raises:
        InvalidInputError: no rows.
    """
    parts = [
        batch.rows(start, min(start + _ROWS_AT_ONCE, len(batch.input_ids)))
        for batch in batches
        for start in range(0, len(batch.input_ids), _ROWS_AT_ONCE)
    ]
    if not parts:
        raise InvalidInputError("batches", got="no row", expected="at least one")
    shape, threads = model.config, threads or available_cores()

    def encode(part: Batch) -> int:
        model.encode(part.input_ids, part.attention_mask, part.token_type_ids)
        return part.input_ids.size if part.attention_mask is None else int(part.attention_mask.sum())

    speeds = []
    with ThreadPoolExecutor(threads) as pool:
        for block in range(_BLOCKS + 1):
            chosen = [parts[(block * threads + place) % len(parts)] for place in range(threads)]
            begin = time.perf_counter()
            tokens = sum(pool.map(encode, chosen))
            speeds.append(tokens / (time.perf_counter() - begin))
    return {
        "kind": "efficiency",
        "parameters": int(model.parameters.buffer.size),
        "flops_a_token": sum(forward_flops(shape, *part.input_ids.shape, 0, last_block_rows=False) for part in parts)
        / sum(part.input_ids.size for part in parts),
        "training_flops": None if config is None else training_flops(config, steps_done),
        "tokens_a_second": median(speeds[1:]),
        "threads": threads,
        "processor": processor_name(),
    }


def training_flops(config: Config, steps_done: int | None = None) -> float | None:
    """Multiplications and additions of the steps of a training by masked language modelling: all, or those done.

    None where its steps or its masking rate are not known beforehand, or its rows are not all of one length.
    """
    train, masking, T = config.train, config.masking, config.model.max_position_embeddings
    adaptive = masking.rate_schedule == "adaptive"
    if train.steps is None or adaptive or not config.tasks.masked_lm or config.data.layout != "packed":
        return None
    steps = train.steps if steps_done is None else steps_done
    rate = math.fsum(scheduled_rate(masking, step, train.steps) for step in range(steps)) / max(steps, 1)
    masked = round(rate * train.batch_size * (T - 2))  # all but [CLS] and [SEP]
    return float(steps) * step_flops(config.model, train.batch_size, T, masked)
