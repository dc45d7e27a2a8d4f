"""How much memory does a training take, how many shards may run at once, and does it fit at all?

Computed from shapes before anything is allocated, out of what each operation says that it keeps (`cost`), and measured
to be right within 15 % (verification/reliability/memory.py). docs/guide/memory.md says where the bytes go.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, NamedTuple

from mini_bert.data.masking_rate import HELD_OUT_RATE, greatest_rate
from mini_bert.errors import ConfigError
from mini_bert.machine import available_bytes

if TYPE_CHECKING:
    from mini_bert.config.schema import Config, ModelConfig, TasksConfig

PROCESS_BYTES = 70_000_000
"""Interpreter, NumPy, the other libraries, and what a worker thread has besides its arrays."""
_FLOAT = 4
_SCATTERED = 1.07
"""What the allocator takes for arrays of so many bytes, for they do not fit together without gaps."""
WITH_RESERVE = 1.15
"""`auto` wants so much more than the estimate: for its error, and for what others take meanwhile."""
_MOST_DOUBLINGS = 7
"""Of the number of shards, in what is advised."""
_DRAWN = 56
"""Bytes an element while a tensor's initial values are drawn."""
_MASKED = {"token": 30, "frequency": 36, "whole_word": 86}
"""Bytes a token while a batch is read and masked; a `masking.kind` that is not here takes `_MASKED_BY_WORDS`."""
_MASKED_BY_WORDS = 114
_SCORED_AT_ONCE, _IN_DOUBLE_AT_ONCE = 1024, 128
"""Masked positions that an evaluation scores at once, and whose losses it computes at once, twice as precisely."""


class TrainingBytes(NamedTuple):
    """Where the memory of one process of a training goes, in bytes."""

    process: int
    parameters: int
    moments: int
    """What the optimiser keeps, slow and averaged weights included."""
    gradients: int
    """All buffers."""
    activations: int
    """Of the shards that run at once: what the backward pass needs, and what it works with."""
    batch: int
    """While tokens are hidden."""
    evaluation: int
    """Of the rows that are scored at once."""
    drawing: int
    """Of the largest tensor's initial values."""

    @property
    def peak(self) -> int:
        """Initial values are drawn before there is anything else, and no shard runs while the model is evaluated."""
        first = self.drawing - self.moments - self.gradients
        return self.process + self.state + max(first, self.activations + self.batch, self.evaluation)

    @property
    def state(self) -> int:
        """What is there from the first step to the last."""
        return self.parameters + self.moments + self.gradients


def training_bytes(config: Config, in_flight: int, process_bytes: int = PROCESS_BYTES, ranks: int = 1) -> TrainingBytes:
    """Memory of one process of a training, by purpose.

    Args:
        config: model, batch size, shards, masking rate.
        in_flight: shards of this process that run at once.
        process_bytes: interpreter and libraries.
        ranks: processes that share the shards.
    """
    from mini_bert.model.parameters import parameter_table
    from mini_bert.training.shard_tree import buffers_needed, own_span, subtrees

    model, train = config.model, config.train
    sizes = [math.prod(row.shape) for row in parameter_table(model)]
    vector, ranks = _FLOAT * sum(sizes), min(ranks, train.shards)
    spans = [own_span(train.shards, ranks, rank) for rank in range(ranks)]
    in_flight = min(in_flight, max(stop - first for first, stop in spans))
    buffers = max(buffers_needed(span, train.shards, in_flight) for span in spans)
    received = sum(len(subtrees(*span, train.shards)) for span in spans[1:]) / ranks
    rows = -(-train.batch_size // train.shards)
    return TrainingBytes(
        process_bytes,
        vector,
        _FLOAT * _kept_by_the_optimizer(config),
        int((buffers + received) * vector),
        int(_SCATTERED * in_flight * _shard_bytes(config, rows)),
        _MASKED.get(config.masking.kind, _MASKED_BY_WORDS) * train.batch_size * model.max_position_embeddings,
        int(_SCATTERED * _evaluation_bytes(config)),
        _DRAWN * max(sizes),
    )


def _kept_by_the_optimizer(config: Config) -> int:
    """Numbers, in all its vectors."""
    from mini_bert.model.parameters import parameter_table
    from mini_bert.optim.layout import length
    from mini_bert.optim.optimizer import vector_layouts
    from mini_bert.training.layout import layout_of
    from mini_bert.training.step import optimizer_settings

    settings = optimizer_settings(config.optimizer)
    layouts = vector_layouts(layout_of(parameter_table(config.model)), settings.name, settings.around)
    return sum(length(kept) for kept in layouts.values())


def estimate_training_bytes(config: Config, in_flight: int, process_bytes: int = PROCESS_BYTES, ranks: int = 1) -> int:
    """Peak memory of one process of a training; arguments as in `training_bytes`."""
    return training_bytes(config, in_flight, process_bytes, ranks).peak


def choose_in_flight(config: Config, threads: int, ranks: int = 1) -> int:
    """How many shards run at once: as many as threads, fewer where memory, or `train.in_flight`, does not allow."""
    most = min(threads, -(-config.train.shards // ranks))
    if config.train.in_flight != "auto":
        return min(most, config.train.in_flight)
    available = available_bytes()
    while most > 1 and available is not None and WITH_RESERVE * _needed_here(config, most, ranks) > available:
        most -= 1
    return most


def require_room(config: Config, in_flight: int, ranks: int = 1) -> None:
    """Refuse a training that cannot fit, before anything large is allocated.

    Raises:
        ConfigError: with what it needs, what there is, and the nearest change that would fit.
    """
    available, needed = available_bytes(), _needed_here(config, in_flight, ranks)
    if available is None or needed <= available:
        return
    parts = training_bytes(config, in_flight, 0, ranks)
    raise ConfigError(
        "model" if parts.state > available else "train.batch_size",
        got=f"a training that needs {_size(needed)}, {_size(parts.state)} of it for parameters, moments and gradients",
        expected=f"at most {_size(available)}, which this process may still take",
        advice=_what_would_fit(config, available, ranks),
    )


def _what_would_fit(config: Config, available: int, ranks: int) -> str:
    """The nearest change with which the training fits.

    Fewer shards at once and fewer rows scored at once leave every number as it is, to the bit or to rounding; more and
    smaller shards leave the gradient as it is, to rounding; a smaller batch is another training.
    """
    batch, shards, scored = config.train.batch_size, config.train.shards, config.evaluation.batch_size
    fewer_scored = [scored >> halved for halved in range(scored.bit_length())]
    more_shards = [shards << doubled for doubled in range(_MOST_DOUBLINGS) if shards << doubled <= batch]
    smaller_batches = [batch >> halved for halved in range(1, batch.bit_length())]
    trainings = [{"train.shards": count} for count in more_shards]
    trainings += [{"train.batch_size": size, "train.shards": min(size, more_shards[-1])} for size in smaller_batches]
    changes = [{**training, "evaluation.batch_size": rows} for training in trainings for rows in fewer_scored]
    for change in changes:
        changed, options = config, ["--train.in-flight 1"]
        for name, value in change.items():
            section, field = name.split(".")
            if getattr(getattr(config, section), field) != value:
                part = getattr(changed, section).model_copy(update={field: value})
                changed = changed.model_copy(update={section: part})
                options.append(f"--{name.replace('_', '-')} {value}")
        if (needed := _needed_here(changed, 1, ranks)) <= available:
            return f"It would need {_size(needed)} with {' '.join(options)}."
    return "Make the model smaller: hidden_size, num_hidden_layers, vocab_size or max_position_embeddings."


def _needed_here(config: Config, in_flight: int, ranks: int) -> int:
    """What the ranks of this host will take on top of what they have."""
    return estimate_training_bytes(config, in_flight, 0, ranks) * min(ranks, _ranks_of_this_host(ranks))


def _ranks_of_this_host(ranks: int) -> int:
    for name in ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE"):
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name])
    return ranks


def _shard_bytes(config: Config, rows: int) -> int:
    """Arrays that are alive at the peak of one shard's forward and backward pass, which is in its backward pass."""
    model = config.model
    H, A, I, V, T = _letters(model)
    n, m = rows * T, rows * _masked_a_row(config, greatest_rate(config.masking))
    hidden_dropped, weights_dropped = bool(model.hidden_dropout_prob), bool(model.attention_probs_dropout_prob)
    gated = model.feed_forward == "gated"
    head = V * H + 2 * m * H
    anywhere = (5 + hidden_dropped) * n * H
    within_a_block = 0
    if model.num_hidden_layers > 1:
        feed_forward = (4 + hidden_dropped) * n * H + (2 + gated) * n * I + H * I
        attention = (8 + 2 * hidden_dropped) * n * H + 3 * n * A * T
        within_a_block = max(feed_forward, attention, (10 + 2 * hidden_dropped) * n * H)
    at_work = max(head, anywhere, within_a_block)
    read = _read(config.tasks, n, m, rows)
    kept = _kept_bytes(model, n, m, hidden_dropped, weights_dropped, config.train.activation_checkpointing, read)
    kept += _FLOAT * H * _gathered(config.tasks, n, m, read)
    return kept + _FLOAT * (3 * m * V + at_work)  # logits, their exponentials, their gradient


def _evaluation_bytes(config: Config) -> int:
    """Arrays that are alive at the peak of an evaluation: a forward pass keeps what a backward pass would need."""
    masked = _masked_a_row(config, HELD_OUT_RATE)
    rows = max(1, min(config.evaluation.batch_size, config.data.held_out_rows, _SCORED_AT_ONCE // masked))
    n, m, V = rows * config.model.max_position_embeddings, rows * masked, config.model.vocab_size
    in_double = 2 * 2 * _FLOAT * V * min(m, _IN_DOUBLE_AT_ONCE)
    all_kept = _FLOAT * m * V + max(_kept_bytes(config.model, n, m, False, False), in_double)
    if config.model.position_embedding_type != "relative_key":
        return all_kept
    A, T = config.model.num_attention_heads, config.model.max_position_embeddings
    by_distance = 2 * _FLOAT * n * A * T  # what is added to scores, beside these
    return max(all_kept, _kept_bytes(config.model, n, 0, False, False) + by_distance)


def _kept_bytes(
    model: ModelConfig,
    n: int,
    m: int,
    hidden_dropped: bool,
    weights_dropped: bool,
    activation_checkpointing: bool = False,
    read: int | None = None,
) -> int:
    """What a forward pass keeps of n tokens, of which m are masked, up to the logits; tasks `read` more than m.

    n rows are read by keys and values of all blocks, and by all else of all blocks but the last, where it is m rows.
    With activation checkpointing, all blocks but the last keep what they read, and one at a time all that it makes.
    """
    from mini_bert.model.feed_forward import ACTIVATIONS
    from mini_bert.model.norms import NORMS
    from mini_bert.ops import attention, dropout

    H, A, I, _, T = _letters(model)
    activation, norm = ACTIVATIONS[model.hidden_act], NORMS[model.norm]
    pre, gated = model.norm_placement == "pre", model.feed_forward == "gated"
    gates = {"none": 0, "head": A, "element": H}[model.attention_gate]
    rotary = model.position_embedding_type == "rotary"

    def block(q: int) -> int:
        kept: int = attention.cost(1, A, q, T, model.head_size).saved_bytes
        kept += norm.cost(n if pre else q, H).saved_bytes + norm.cost(q, H).saved_bytes
        kept += activation.cost(q * I).saved_bytes + _FLOAT * (2 * gated * q * I + pre * (n - q) * H)
        kept += _FLOAT * (2 * n * H + (4 if q == n else 5) * q * H + q * I)  # K and V; Q, context, two outputs; hidden
        kept += _FLOAT * (bool(gates) * q * (H + gates) + rotary * (n + (q == n) * n) * H)
        if hidden_dropped:
            kept += 2 * dropout.cost(q * H).saved_bytes
        if weights_dropped:
            kept += _FLOAT * q * A * T + dropout.cost(q * A * T).saved_bytes
        return kept

    embeddings = norm.cost(n, H).saved_bytes + _FLOAT * n * H
    if hidden_dropped:
        embeddings += dropout.cost(n * H).saved_bytes
    head = activation.cost(m * H).saved_bytes + norm.cost(m, H).saved_bytes + _FLOAT * m * H
    if pre:
        head += norm.cost(m, H).saved_bytes  # the final norm
    others, last = model.num_hidden_layers - 1, block(m if read is None else read)
    if activation_checkpointing and others:
        return embeddings + others * _FLOAT * n * H + block(n) + last + head
    return embeddings + others * block(n) + last + head


def _read(tasks: TasksConfig, n: int, m: int, rows: int) -> int:
    """How many of n tokens some task reads: all, or the m masked ones, and one a row for tasks about pairs."""
    if tasks.token_order or tasks.replaced_token:
        return n
    about_rows = (tasks.next_sentence, tasks.sentence_order, tasks.classification, tasks.regression)
    return m + rows * any(about_rows)


def _gathered(tasks: TasksConfig, n: int, m: int, read: int) -> int:
    """Rows of hidden states that heads keep copies of, and the sum of what they hand back."""
    about_tokens = bool(tasks.token_order) + bool(tasks.replaced_token)
    return read + m + about_tokens * (n - m) if read > m else 0


def _masked_a_row(config: Config, rate: float) -> int:
    return max(1, math.ceil(rate * (config.model.max_position_embeddings - 2)))


def _letters(model: ModelConfig) -> tuple[int, int, int, int, int]:
    return (
        model.hidden_size,
        model.num_attention_heads,
        model.intermediate_size,
        model.vocab_size,
        model.max_position_embeddings,
    )


def _size(bytes_: float) -> str:
    return f"{bytes_ / 1e9:,.1f} GB" if bytes_ >= 1e9 else f"{bytes_ / 1e6:,.0f} MB"
