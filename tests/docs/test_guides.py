"""The examples of the guides, run as they stand."""

from __future__ import annotations

import doctest
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mini_bert import MiniBERT, load_config

GUIDES = Path(__file__).parents[2] / "docs" / "guide"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", ["curriculum", "huggingface", "inside", "learning_rate", "masking", "tokenizer"])
def test_the_examples_of_a_guide_are_true(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINI_BERT_CACHE", str(tmp_path))
    path = str(GUIDES / f"{name}.md")
    results = doctest.testfile(path, module_relative=False, encoding="utf-8", optionflags=FLAGS)
    assert results.attempted >= 10
    assert results.failed == 0


def names_and_shapes(columns: int) -> Iterator[tuple[list[str], dict[str, tuple[int, ...]]]]:
    """Row by row of the tables with so many columns: the cells, and what they say of two rows in `model/debug`."""
    sizes = {"1": 1, "B": 2, "T": 12, "H": 32, "A": 2, "K": 16, "I": 64, "V": 512}
    for line in (GUIDES / "inside.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != columns or not cells[0].startswith("`"):
            continue
        first, *others = cells[0].replace("`", "").split()
        shape = tuple(sizes[letter] for letter in cells[1].partition("]")[0].strip("[").split(", "))
        names = (first, *(first.rpartition(".")[0] + other for other in others))
        yield cells, {name.replace("layer_i", f"layer_{i}"): shape for name in names for i in (0, 1)}


def test_names_of_variants_in_the_table_are_all_that_they_add() -> None:
    told: dict[str, dict[str, tuple[int, ...]]] = {}
    for cells, shapes in names_and_shapes(4):
        told.setdefault(cells[2].strip("`"), {}).update(shapes)
    default = load_config(["model/debug"]).model
    _, plain = MiniBERT(default).forward(np.full((2, 12), 7))
    for setting, expected in told.items():
        name, _, value = setting.partition("=")
        _, cache = MiniBERT(default.model_copy(update={name: value})).forward(np.full((2, 12), 7))
        assert {key: cache[key].shape for key in cache if key not in plain} == expected, setting
    assert len(told) == 8


def test_names_and_shapes_in_the_table_are_those_of_a_pass() -> None:
    _, cache = MiniBERT(load_config(["model/debug"]).model).forward(np.full((2, 12), 7))
    told = {}
    for _, shapes in names_and_shapes(3):
        told |= shapes
    found = {name: array.shape for name, array in cache.items()}
    assert told.keys() == found.keys()
    broadcast = {"embeddings.position", "embeddings.segment"}
    assert {name: told[name] for name in told if name not in broadcast} == {
        name: found[name] for name in found if name not in broadcast
    }
