"""The backward pass as one calls it: a gradient for every parameter, added up until it is cleared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mini_bert.errors import InvalidInputError
from mini_bert.model.heads import HEADS
from mini_bert.model.inputs import as_array, require_finite
from mini_bert.model.parameters import Parameters
from mini_bert.model.trace import Cache
from mini_bert.ops.contract import Array, Tap, identity
from mini_bert.ops.cross_entropy import mlm_cross_entropy

if TYPE_CHECKING:
    from mini_bert.model.bert import MiniBERT


class MiniBERTGradients:
    """Gradients of one model's parameters, in one buffer of the same layout.

    `gradients` is a Mapping name → array; the arrays are views into the buffer. Every backward pass adds to them.
    """

    def __init__(self, model: MiniBERT) -> None:
        """Zero gradients for `model`."""
        self.model = model
        self.gradients = Parameters(model.config, model.dtype)

    def zero_gradients(self) -> None:
        """Set all gradients to zero, in place."""
        self.gradients.buffer[...] = 0

    def compute_mlm_loss_and_gradients(self, logits: Any, target_ids: Any, mask_pos: Any = None) -> tuple[float, Array]:
        """Mean loss over the masked positions, and its gradient [B, T, V]; see `mlm_cross_entropy`."""
        return mlm_cross_entropy(logits, target_ids, mask_pos)

    def backward_from_logits(self, grad_logits: Any, cache: Cache, *, tap: Tap = identity) -> None:
        """Add the gradient of every parameter, given the gradient of the logits that `forward` returned with `cache`.

        Raises:
            InvalidInputError: `grad_logits` has not the shape of those logits or is not finite, or `cache` came from
                `encode`.
        """
        if cache.head is None:
            raise InvalidInputError(
                "cache", got="one of encode()", expected="one of forward(); or backward_from_hidden"
            )
        encoder_saved, head_saved = cache.saved
        dlogits = self._checked("grad_logits", grad_logits, cache["logits"].shape)
        run = encoder_saved.run._replace(tap=tap)
        backward = HEADS[cache.head][1]
        dx_BTH = backward(dlogits, head_saved, self.model.parameters, self.gradients, self.model.config, run)
        self.model.encode_backward(dx_BTH, encoder_saved, self.gradients, tap)

    def backward_from_hidden(self, grad_hidden: Any, cache: Cache, *, tap: Tap = identity) -> None:
        """Add the gradient of embeddings and blocks, given the gradient [B, T, H] of the last hidden states."""
        encoder_saved, _ = cache.saved
        last = f"layer_{self.model.config.num_hidden_layers - 1}.output"
        dx_BTH = self._checked("grad_hidden", grad_hidden, cache[last].shape)
        self.model.encode_backward(dx_BTH, encoder_saved, self.gradients, tap)

    def _checked(self, argument: str, value: Any, shape: tuple[int, ...]) -> Array:
        array = as_array(argument, value)
        if array.shape != shape or array.dtype.kind not in "fc":
            raise InvalidInputError(
                argument, got=f"{array.dtype} {list(array.shape)}", expected=f"floats of shape {list(shape)}"
            )
        require_finite(argument, array)
        return array.astype(self.model.dtype, copy=False)
