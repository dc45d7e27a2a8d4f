"""A MODEL argument that can be no model ends in a message, whatever it is."""

from __future__ import annotations

import pytest

from mini_bert.errors import CheckpointError
from mini_bert.training.model_lookup import find_model


@pytest.mark.parametrize(
    "name",
    ["x" * 300, "a\0b", "", ".", "..", "/", "x/" + "y" * 97, "a--b/c", "a/b..c", "x/" + "y" * 300, "~", "é/é", "a/b/c"],
)
def test_senseless_names(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="MODEL: got "):
        find_model(name)
