"""Is this something that the model can read? Every check names the argument, what was got and what was expected."""

from __future__ import annotations

from typing import Any

import numpy as np

from mini_bert.batch import Batch
from mini_bert.config.schema import ModelConfig
from mini_bert.errors import InvalidInputError
from mini_bert.ops.contract import Array


def check_inputs(
    config: ModelConfig, input_ids: Any, attention_mask: Any, token_type_ids: Any
) -> tuple[Array, Array | None, Array | None]:
    """Return ids [B, T], mask [B, T] bool or None, segments [B, T] or None; a mask without padding is None."""
    ids_BT = _integers("input_ids", input_ids, config.vocab_size, "V")
    if ids_BT.ndim != 2:
        raise InvalidInputError(
            "input_ids", got=f"shape {list(ids_BT.shape)}", expected="shape [B, T]", advice="One row is [[…ids…]]."
        )
    B, T = ids_BT.shape
    if B == 0 or T == 0:
        raise InvalidInputError("input_ids", got=f"shape {[B, T]}", expected="at least one row of at least one token")
    if config.max_position_embeddings < T:
        raise InvalidInputError(
            "input_ids",
            got=f"rows of T = {T} tokens",
            expected=f"at most {config.max_position_embeddings}",
            advice="The model has no embedding for later positions; cut the rows.",
        )
    types_BT = None
    if token_type_ids is not None:
        types_BT = _integers("token_type_ids", token_type_ids, config.type_vocab_size, "the number of segments")
        _same_shape("token_type_ids", types_BT, (B, T))
    return ids_BT, check_mask("attention_mask", attention_mask, (B, T)), types_BT


def check_mask(argument: str, mask: Any, shape: tuple[int, int]) -> Array | None:
    """A mask of bool or 0/1 integers of `shape` as bool; None where it hides nothing."""
    if mask is None:
        return None
    array = as_array(argument, mask)
    if array.dtype.kind not in "biu":
        raise InvalidInputError(argument, got=f"dtype {array.dtype}", expected="bool, or integers 0 and 1")
    strange = array[(array != 0) & (array != 1)]
    if strange.size:
        raise InvalidInputError(argument, got=strange[0], expected="bool, or integers 0 and 1")
    _same_shape(argument, array, shape)
    return None if array.all() else array.astype(bool)


def check_hidden(
    config: ModelConfig, x: Any, attention_mask: Any, layer: int, dtype: np.dtype[Any]
) -> tuple[Array, Array | None]:
    """Hidden states [B, T, H] in the model's dtype, and their mask."""
    x_BTH = as_array("x", x)
    if x_BTH.ndim != 3 or x_BTH.shape[2] != config.hidden_size or x_BTH.dtype.kind not in "fc" or not x_BTH.size:
        raise InvalidInputError(
            "x", got=f"{x_BTH.dtype} {list(x_BTH.shape)}", expected=f"floats of shape [B, T, {config.hidden_size}]"
        )
    require_finite("x", x_BTH)
    longest = config.max_position_embeddings
    if config.position_embedding_type == "relative_key" and x_BTH.shape[1] > longest:
        raise InvalidInputError(
            "x",
            got=f"rows of T = {x_BTH.shape[1]}",
            expected=f"at most {longest}, up to which distances have embeddings",
        )
    if not isinstance(layer, int | np.integer) or not 0 <= layer < config.num_hidden_layers:
        raise InvalidInputError("layer", got=repr(layer), expected=f"0 to {config.num_hidden_layers - 1}")
    return x_BTH.astype(dtype, copy=False), check_mask("attention_mask", attention_mask, x_BTH.shape[:2])


def check_batch(config: ModelConfig, batch: Batch, *, targets: bool) -> Batch:
    """Return the batch as arrays that fit together, as `check_inputs` does; with `targets`, those have to be there."""
    ids_BT, mask_BT, types_BT = check_inputs(config, batch.input_ids, batch.attention_mask, batch.token_type_ids)
    if batch.masked_positions is None:
        raise InvalidInputError("batch.masked_positions", got=None, expected="the positions to predict, [M]")
    positions = as_array("batch.masked_positions", batch.masked_positions)
    if positions.ndim != 1 or positions.dtype.kind not in "iu" or not _ascending_within(positions, ids_BT.size):
        raise InvalidInputError(
            "batch.masked_positions",
            got=f"{positions.dtype} {list(positions.shape)}",
            expected=f"ascending integer positions b * T + t below {ids_BT.size}",
        )
    checked = batch._replace(
        input_ids=ids_BT, attention_mask=mask_BT, token_type_ids=types_BT, masked_positions=positions
    )
    if not targets:
        return checked
    if batch.target_ids is None:
        raise InvalidInputError("batch.target_ids", got=None, expected="the original ids at masked_positions, [M]")
    target_ids = _integers("batch.target_ids", batch.target_ids, config.vocab_size, "V")
    _same_shape("batch.target_ids", target_ids, positions.shape)
    return checked._replace(target_ids=target_ids)


def as_array(argument: str, value: Any) -> Array:
    """Whatever NumPy can make an array of."""
    try:
        return np.asarray(value)
    except ValueError as error:
        raise InvalidInputError(argument, got="nested lists of unequal lengths", expected="a full array") from error


def require_finite(argument: str, array: Array) -> None:
    """Raise InvalidInputError where an element is NaN or infinite."""
    finite = np.isfinite(array)
    if not finite.all():
        place = [int(i) for i in np.unravel_index(int(finite.argmin()), array.shape)]
        raise InvalidInputError(argument, got=f"{array[tuple(place)]} at {place}", expected="finite numbers")


def _ascending_within(positions: Array, size: int) -> bool:
    if positions.size == 0:
        return True
    return bool(positions[0] >= 0 and positions[-1] < size and np.all(positions[1:] > positions[:-1]))


def _integers(argument: str, value: Any, bound: int, bound_name: str) -> Array:
    array = as_array(argument, value)
    if array.dtype.kind not in "iu":
        raise InvalidInputError(argument, got=f"dtype {array.dtype}", expected="integers")
    if array.size and not (array.min() >= 0 and array.max() < bound):
        worst = int(array.min()) if array.min() < 0 else int(array.max())
        raise InvalidInputError(argument, got=worst, expected=f"ids from 0 to {bound - 1} ({bound_name} = {bound})")
    return array


def _same_shape(argument: str, array: Array, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise InvalidInputError(argument, got=f"shape {list(array.shape)}", expected=f"shape {list(shape)}")
