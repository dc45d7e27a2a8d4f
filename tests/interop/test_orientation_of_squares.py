"""Square weights are turned as well: their shape does not say which way round they lie."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from mini_bert.interop.huggingface import from_hugging_face, to_hugging_face


class Row(NamedTuple):
    name: str
    shape: tuple[int, ...]
    hugging_face: str
    transposed: bool


ATTENTION = "bert.encoder.layer.0.attention"
WEIGHTS = {
    "W_Q_0": f"{ATTENTION}.self.query.weight",
    "W_K_0": f"{ATTENTION}.self.key.weight",
    "W_V_0": f"{ATTENTION}.self.value.weight",
    "W_O_0": f"{ATTENTION}.output.dense.weight",
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_square_weight_is_turned_as_well(name: str) -> None:
    """[out, in] in a file of theirs, [in, out] here: x W + b is what their x @ W.T + b is."""
    theirs, x = np.arange(9.0).reshape(3, 3), np.array([1.0, 0.0, 0.0])
    rows = (Row(name, (3, 3), WEIGHTS[name], True),)
    ours = from_hugging_face({WEIGHTS[name]: theirs}, rows, "file").arrays[name]
    np.testing.assert_array_equal(x @ ours, x @ theirs.T, err_msg=name)
    np.testing.assert_array_equal(to_hugging_face({name: ours}, rows)[WEIGHTS[name]], theirs, err_msg=name)
