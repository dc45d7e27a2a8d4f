"""A MODEL argument that can be no model ends in a message, whatever it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from mini_bert.cli.models import find_model as find_by_name
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


def test_a_model_that_comes_with_the_package_is_found_behind_runs(tmp_path, monkeypatch):
    from mini_bert.model import shipped

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "package")
    with pytest.raises(CheckpointError, match="'mini-bert', which is neither"):
        find_model("mini-bert")
    folder = tmp_path / "package" / "mini-bert"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert find_model("mini-bert") == find_by_name("mini-bert") == folder
    with pytest.raises(CheckpointError, match="Did you mean 'mini-bert'"):
        find_model("minibert")
    own = tmp_path / "runs" / "mini-bert"
    own.mkdir(parents=True)
    (own / "config.json").write_text("{}")
    assert find_model("mini-bert") == Path("runs/mini-bert")
    assert find_by_name("mini-bert") == Path("runs/mini-bert")
