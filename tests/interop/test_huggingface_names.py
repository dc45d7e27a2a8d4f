"""Name and orientation maps between a parameter table and Hugging Face files."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from mini_bert.errors import CheckpointError, InvalidInputError
from mini_bert.interop.huggingface import from_hugging_face, to_hugging_face


class Row(NamedTuple):
    name: str
    shape: tuple[int, ...]
    hugging_face: str
    transposed: bool


ROWS = (
    Row("token_embeddings", (5, 2), "bert.embeddings.word_embeddings.weight", False),
    Row("W1_0", (2, 3), "bert.encoder.layer.0.intermediate.dense.weight", True),
    Row("decoder_bias", (5,), "cls.predictions.bias", False),
)


@pytest.fixture
def parameters():
    rng = np.random.default_rng(0)
    return {row.name: rng.standard_normal(row.shape).astype(np.float32) for row in ROWS}


def test_there_and_back(parameters):
    foreign = to_hugging_face(parameters, ROWS)
    weight = foreign["bert.encoder.layer.0.intermediate.dense.weight"]
    assert weight.shape == (3, 2)
    assert weight[2, 0] == parameters["W1_0"][0, 2]
    assert all(array.flags.c_contiguous for array in foreign.values())
    imported = from_hugging_face(foreign, ROWS, "file")
    assert imported.missing == imported.unexpected == ()
    for name, array in parameters.items():
        np.testing.assert_array_equal(imported.arrays[name], array)


def test_a_bare_encoder_has_no_prefix(parameters):
    foreign = {name.removeprefix("bert."): array for name, array in to_hugging_face(parameters, ROWS[:2]).items()}
    imported = from_hugging_face(foreign, ROWS, "file")
    assert imported.missing == ("decoder_bias",)
    np.testing.assert_array_equal(imported.arrays["W1_0"], parameters["W1_0"])


def test_twins_and_buffers_are_explained_and_nothing_else_is(parameters):
    foreign = to_hugging_face(parameters, ROWS)
    foreign["cls.predictions.decoder.weight"] = parameters["token_embeddings"].copy()
    foreign["cls.predictions.decoder.bias"] = foreign.pop("cls.predictions.bias")
    foreign["bert.embeddings.position_ids"] = np.arange(4)
    foreign["bert.encoder.layer.1.odd"] = np.zeros(1)
    imported = from_hugging_face(foreign, ROWS, "file")
    assert imported.missing == ()
    assert imported.unexpected == ("encoder.layer.1.odd",)


def test_an_untied_decoder_is_refused(parameters):
    foreign = to_hugging_face(parameters, ROWS)
    foreign["cls.predictions.decoder.weight"] = parameters["token_embeddings"] + 1
    with pytest.raises(CheckpointError, match="tied"):
        from_hugging_face(foreign, ROWS, "file")


def test_a_wrong_shape_or_dtype_is_refused(parameters):
    foreign = to_hugging_face(parameters, ROWS)
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    for wrong in (foreign[name].T, foreign[name].astype(np.int64)):
        with pytest.raises(CheckpointError, match="W1_0"):
            from_hugging_face({**foreign, name: wrong}, ROWS, "file")


def test_two_tensors_of_one_name_are_not_written_over_one_another(parameters):
    with pytest.raises(InvalidInputError, match="two heads"):
        to_hugging_face({**parameters, "again": np.zeros(5)}, [*ROWS, ROWS[2]._replace(name="again")])
