"""BERT as a whole (Devlin et al. 2019): embeddings, L blocks, a head; and the masked-language-model step.

Two passes run through the same blocks. `forward` computes everything, records every intermediate and gives logits
[B, T, V]. `mlm_loss_and_gradients` computes only what the loss reads: logits at the M masked positions, and behind the
keys and values of the last block only these M rows. Loss and gradients are the same (docs/derivations/masked_lm.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mini_bert.batch import Batch
from mini_bert.config.schema import ModelConfig
from mini_bert.errors import InvalidInputError, NonFiniteError
from mini_bert.model import attention, block, embeddings, norms, pre_norm_block
from mini_bert.model.forward_pass import Pass, Reading
from mini_bert.model.gradients import MiniBERTGradients
from mini_bert.model.heads import HEADS
from mini_bert.model.initialization import initialize
from mini_bert.model.inputs import check_batch, check_hidden, check_inputs
from mini_bert.model.norms import norm_backward, norm_forward
from mini_bert.model.parameters import Parameters, add_gradient
from mini_bert.model.trace import Cache, Recorder
from mini_bert.ops import cross_entropy, softmax
from mini_bert.ops.contract import Array, Tap, identity
from mini_bert.random_streams import RandomStream

if TYPE_CHECKING:
    from mini_bert.text.wordpiece import WordPiece

FLOAT_ERRORS: dict[str, Any] = {"divide": "raise", "over": "raise", "invalid": "raise", "under": "ignore"}
"""What NumPy does in our passes: an overflow or a NaN is an error where it happens; an underflow is a zero."""


BLOCKS: dict[str, Any] = {"post": block, "pre": pre_norm_block}
"""By `norm_placement` of the configuration."""


class EncoderSaved(NamedTuple):
    """What the backward pass needs of embeddings and blocks."""

    run: Pass
    embeddings: embeddings.Saved
    blocks: tuple[Any, ...]
    """What each block keeps; or, with activation checkpointing, its input [B, T, H] for all but the last."""
    final: norms.Saved | None
    read: Reading | None


class Prediction(NamedTuple):
    """A piece that may stand at a mask."""

    token: str
    id: int
    probability: float


class MiniBERT:
    """A BERT with parameters of its own: configuration, one buffer of numbers, no other state.

    Args:
        config: the shape; by default the faithful Mini-BERT of 2,966,144 parameters.
        dtype: float32; float64 to see whether something is noise or a bug; complex128 for the complex step.
        seed: seed of the initial values.
        tokenizer: the WordPiece that made the ids; `fill_mask` and `save_pretrained` use it.
        unigram: [V] counts of the pieces in the training text, for `decoder_bias_init: unigram`.
    """

    def __init__(
        self,
        config: ModelConfig | None = None,
        dtype: Any = np.float32,
        seed: int = 0,
        tokenizer: WordPiece | None = None,
        unigram: Any = None,
    ) -> None:
        config = ModelConfig() if config is None else config
        if not isinstance(config, ModelConfig):
            raise InvalidInputError("config", got=type(config).__name__, expected="a ModelConfig")
        self._take(Parameters(config, _checked_dtype(dtype)), tokenizer)
        initialize(self.parameters, seed, unigram)

    @classmethod
    def from_parameters(cls, parameters: Parameters, tokenizer: WordPiece | None = None) -> MiniBERT:
        """A model over parameters that exist already; nothing is copied."""
        model = cls.__new__(cls)
        model._take(parameters, tokenizer)
        return model

    def _take(self, parameters: Parameters, tokenizer: WordPiece | None) -> None:
        self.config = parameters.config
        self.parameters = parameters
        self.tokenizer = tokenizer

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of all parameters and intermediates."""
        return self.parameters.buffer.dtype

    def __repr__(self) -> str:
        c = self.config
        return (
            f"MiniBERT(L={c.num_hidden_layers} H={c.hidden_size} A={c.num_attention_heads} I={c.intermediate_size} "
            f"T={c.max_position_embeddings} V={c.vocab_size}, heads={list(c.heads)}, "
            f"{self.parameters.buffer.size:,} parameters, {self.dtype})"
        )

    # --- the two halves of a pass -----------------------------------------------------------------------------------

    def encode_forward(
        self,
        ids_BT: Array,
        types_BT: Array | None,
        run: Pass,
        read: Reading | None = None,
        *,
        activation_checkpointing: bool = False,
    ) -> tuple[Array, EncoderSaved]:
        """Embeddings and blocks: hidden states [B, T, H], or [M, H] at the positions in `read`. Inputs are trusted.

        With `activation_checkpointing`, blocks keep their input alone and `encode_backward` computes the rest anew
        (Chen et al. 2016, section 3); the last block keeps everything, since it is the first that is undone.
        """
        parameters, config = self.parameters, self.config
        x, embeddings_saved = embeddings.embeddings_forward(ids_BT, types_BT, parameters.embeddings, config, run)
        blocks: list[Any] = []
        last = len(parameters.layers) - 1
        for i, layer in enumerate(parameters.layers):
            y, saved = BLOCKS[config.norm_placement].block_forward(
                x, layer, config, run, f"layer_{i}", read if i == last else None
            )
            blocks.append(x if activation_checkpointing and i < last else saved)
            x = y
        final, final_saved = parameters.final, None
        if final is not None:
            x, final_saved = norm_forward(x, final.gamma, final.beta, config)  # (PRE.3)
            x = run.tap("encoder.output", x)
        return x, EncoderSaved(run, embeddings_saved, tuple(blocks), final_saved, read)

    def encode_backward(self, dx: Array, saved: EncoderSaved, grads: Parameters, tap: Tap = identity) -> None:
        """Undo `encode_forward`, last block first, and add all gradients to `grads`.

        A block that kept its input alone is computed again as before: the same dropout, since that is a function of
        its place, and the same tap, which sees the intermediates a second time.
        """
        parameters, config, blocks = self.parameters, self.config, BLOCKS[self.config.norm_placement]
        run = saved.run._replace(tap=tap)
        if saved.final is not None:
            assert grads.final is not None
            dx, dgamma, dbeta = norm_backward(run.tap("encoder.output", dx), saved.final)
            grads.final.gamma[...] += dgamma
            add_gradient(grads.final.beta, dbeta)
        last = len(parameters.layers) - 1
        for i in range(last, -1, -1):
            read = saved.read if i == last else None
            layer, dlayer, kept = parameters.layers[i], grads.layers[i], saved.blocks[i]
            if isinstance(kept, np.ndarray):
                _, kept = blocks.block_forward(kept, layer, config, saved.run, f"layer_{i}", read)
            dx = blocks.block_backward(dx, kept, layer, dlayer, config, run, f"layer_{i}", read)
        embeddings.embeddings_backward(dx, saved.embeddings, grads.embeddings, run)

    # --- everything, recorded ---------------------------------------------------------------------------------------

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        *,
        head: str | None = None,
        tap: Tap = identity,
    ) -> tuple[Array, Cache]:
        """Logits of a head, and every intermediate on the way. No dropout.

        Args:
            input_ids: [B, T] integers in [0, V), T at most `max_position_embeddings`.
            attention_mask: [B, T] bool or 0/1, true on real tokens; by default all are real.
            token_type_ids: [B, T] segments; by default all 0.
            head: which head; by default the first that the model has.
            tap: sees every intermediate, and what it returns takes its place: for ablation and patching.

        Returns:
            logits [B, T, V] (`mlm`), [B, T, labels] (`token_classifier`), [B, T, 2] (`std`, `rtd`), [B, 2] (`nsp`,
            `sop`) or [B, labels] (`classifier`); and the cache: name → array, which
            `MiniBERTGradients.backward_from_logits` takes back.

        Raises:
            InvalidInputError: names the argument that does not fit, or a head that the model does not have.
        """
        head = head if head is not None else next(iter(self.config.heads), "mlm")
        self.parameters.require_head(head)
        record = Recorder(tap)
        with np.errstate(**FLOAT_ERRORS):
            hidden, saved = self._encode(input_ids, attention_mask, token_type_ids, record)
            logits, head_saved = HEADS[head][0](hidden, self.parameters, self.config, saved.run)
        return logits, Cache(record.arrays, (saved, head_saved), head)

    def encode(
        self, input_ids: Any, attention_mask: Any = None, token_type_ids: Any = None, *, tap: Tap = identity
    ) -> tuple[Array, Cache]:
        """The last hidden states [B, T, H], without a head, and every intermediate; arguments as in `forward`."""
        record = Recorder(tap)
        with np.errstate(**FLOAT_ERRORS):
            hidden, saved = self._encode(input_ids, attention_mask, token_type_ids, record)
        return hidden, Cache(record.arrays, (saved, None), None)

    def _encode(self, input_ids: Any, attention_mask: Any, token_type_ids: Any, tap: Tap) -> tuple[Array, EncoderSaved]:
        ids_BT, mask_BT, types_BT = check_inputs(self.config, input_ids, attention_mask, token_type_ids)
        return self.encode_forward(ids_BT, types_BT, Pass(ids_BT.shape[0], ids_BT.shape[1], mask_BS=mask_BT, tap=tap))

    def multi_head_attention(
        self, x: Any, layer: int = 0, attention_mask: Any = None
    ) -> tuple[Array, dict[str, Array]]:
        """One layer's attention sublayer on hidden states of your own.

        Args:
            x: [B, T, H] floats, cast to the model's dtype.
            layer: which block's weights.
            attention_mask: [B, T] bool or 0/1; by default all positions are real.

        Returns:
            the output [B, T, H], before residual and LayerNorm, and a dictionary with `Q`, `K`, `V` [B, A, T, K],
            `scores` and `attention_weights` [B, A, T, T] and `context` [B, T, H].
        """
        x_BTH, mask_BT = check_hidden(self.config, x, attention_mask, layer, self.dtype)
        record = Recorder()
        run = Pass(x_BTH.shape[0], x_BTH.shape[1], mask_BS=mask_BT, tap=record)
        with np.errstate(**FLOAT_ERRORS):
            y, _ = attention.attention_forward(
                x_BTH, self.parameters.layers[layer].attention, self.config, run, "attention"
            )
        names = ("Q", "K", "V", "scores", "attention_weights", "context")
        return y, {name: record.arrays[f"attention.{name}"] for name in names}

    _multi_head_attention = multi_head_attention

    # --- only what the loss reads -----------------------------------------------------------------------------------

    def mlm_logits(self, batch: Batch, tap: Tap = identity) -> Array:
        """Logits [M, V] at `batch.masked_positions`, and nothing else. No dropout."""
        batch = check_batch(self.config, batch, targets=False)
        with np.errstate(**FLOAT_ERRORS):
            return self._mlm_forward(batch, None, tap)[0]

    def mlm_loss_and_gradients(
        self,
        batch: Batch,
        gradients: Parameters | MiniBERTGradients,
        dropout: RandomStream | None = None,
        tap: Tap = identity,
        *,
        activation_checkpointing: bool = False,
    ) -> tuple[float, int]:
        """The summed loss over the masked positions of `batch`; its gradient is added to `gradients`.

        Args:
            batch: with `masked_positions` and `target_ids`.
            gradients: parameters of the same shape, or a MiniBERTGradients; added to, never cleared.
            dropout: random numbers for dropout; None: no dropout.
            tap: sees the intermediates of the forward pass.
            activation_checkpointing: keep each block's input only and compute the rest anew in the backward pass: less
                memory, more time, the same bits; `tap` sees all but the last block twice.

        Returns:
            `(loss_sum, n_masked)`, the sum in nats and M; their quotient over all shards is the mean loss.

        Raises:
            FloatingPointError: an overflow or an invalid operation on the way, as NumPy's errstate finds it.
            InvalidInputError: the batch does not fit the model.
        """
        grads = gradients.gradients if isinstance(gradients, MiniBERTGradients) else gradients
        if grads.table != self.parameters.table:
            raise InvalidInputError("gradients", got=repr(grads), expected=f"the layout of {self.parameters!r}")
        batch = check_batch(self.config, batch, targets=True)
        assert batch.target_ids is not None
        targets = batch.target_ids
        if targets.size == 0:
            return 0.0, 0
        with np.errstate(**FLOAT_ERRORS):
            logits_MV, encoder_saved, head_saved = self._mlm_forward(batch, dropout, tap, activation_checkpointing)
            loss, loss_saved = cross_entropy.forward(logits_MV, targets=targets)
            (dlogits_MV,) = cross_entropy.backward(np.ones((), self.dtype), loss_saved)
            dx_MH = HEADS["mlm"][1](
                dlogits_MV, head_saved, self.parameters, grads, self.config, encoder_saved.run._replace(tap=identity)
            )
            self.encode_backward(dx_MH, encoder_saved, grads)
        return loss.item(), targets.size

    def _mlm_forward(
        self, batch: Batch, dropout: RandomStream | None, tap: Tap, activation_checkpointing: bool = False
    ) -> tuple[Array, EncoderSaved, Any]:
        self.parameters.require_head("mlm")
        B, T = batch.input_ids.shape
        assert batch.masked_positions is not None
        run = Pass(B, T, batch.attention_mask, dropout, batch.first_row, tap)
        read = Reading.of(batch.masked_positions, B, T)
        x_MH, encoder_saved = self.encode_forward(
            batch.input_ids, batch.token_type_ids, run, read, activation_checkpointing=activation_checkpointing
        )
        logits_MV, head_saved = HEADS["mlm"][0](x_MH, self.parameters, self.config, run)
        return logits_MV, encoder_saved, head_saved

    def fill_mask(self, text: str, top_k: int = 5) -> list[list[Prediction]]:
        """The `top_k` likeliest pieces for each [MASK] in `text`, likeliest first.

        Raises:
            InvalidInputError: no [MASK] in the text, more pieces than the model has positions, or no tokenizer.
            NonFiniteError: the weights are so large that an activation overflows.
        """
        if self.tokenizer is None:
            raise InvalidInputError(
                "tokenizer", got="a model without one", expected="a model loaded from a folder with vocab.txt"
            )
        pieces = min(self.tokenizer.vocab_size, self.config.vocab_size)
        if not isinstance(top_k, int | np.integer) or not 1 <= top_k <= pieces:
            raise InvalidInputError("top_k", got=repr(top_k), expected=f"1 to {pieces}")
        ids, _ = self.tokenizer.encode_row(text)
        positions = np.flatnonzero(np.array(ids) == self.tokenizer.mask_id)
        if positions.size == 0:
            raise InvalidInputError(
                "text", got=f"{text!r}", expected="at least one [MASK]", advice="Write [MASK] where a piece is missing."
            )
        if len(ids) > self.config.max_position_embeddings:
            raise InvalidInputError(
                "text",
                got=f"{len(ids)} pieces with [CLS] and [SEP]",
                expected=f"at most {self.config.max_position_embeddings}",
                advice="Shorten the text, or fill it sentence by sentence.",
            )
        try:
            logits_MV = self.mlm_logits(Batch(np.array([ids], np.int32), masked_positions=positions))
        except FloatingPointError as error:
            raise NonFiniteError("model", got=str(error), expected="weights with which all stays finite") from error
        probs_MV = softmax.stable_softmax(logits_MV)[:, :pieces]  # a table may have more rows than there are pieces
        best_MK = np.argpartition(-probs_MV, top_k - 1, axis=-1)[:, :top_k]
        return [
            [
                Prediction(self.tokenizer.token(int(i)), int(i), float(probs[i]))
                for i in sorted(best, key=lambda i: (-probs[i], i))
            ]
            for probs, best in zip(probs_MV, best_MK, strict=True)
        ]

    # --- folders ----------------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path, dtype: str | None = None) -> None:
        """Write a Hugging Face model folder: `config.json`, `model.safetensors` and the tokenizer's files if any.

        With `dtype` (float16, bfloat16, float32, float64) the numbers are rounded to it.
        """
        from mini_bert.model.pretrained import save_pretrained

        save_pretrained(self, folder, dtype)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        dtype: Any = np.float32,
        heads: tuple[str, ...] | None = None,
        num_labels: int | None = None,
        seed: int = 0,
        *,
        with_tokenizer: bool = True,
    ) -> MiniBERT:
        """Read a Hugging Face model folder; see `mini_bert.model.pretrained.from_pretrained`."""
        from mini_bert.model.pretrained import from_pretrained

        return from_pretrained(folder, dtype, heads, num_labels, seed, with_tokenizer=with_tokenizer)


def _checked_dtype(dtype: Any) -> np.dtype[Any]:
    allowed: tuple[np.dtype[Any], ...] = (np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.complex128))
    try:
        resolved: np.dtype[Any] = np.dtype(dtype)
    except TypeError:
        resolved = np.dtype(object)
    if resolved not in allowed:
        raise InvalidInputError("dtype", got=dtype, expected="float32, float64 or complex128")
    return resolved
