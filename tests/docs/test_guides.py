"""The examples of the guides, run as they stand."""

from __future__ import annotations

import doctest
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


def test_names_and_shapes_in_the_table_are_those_of_a_pass() -> None:
    _, cache = MiniBERT(load_config(["model/debug"]).model).forward(np.full((2, 12), 7))
    sizes = {"B": 2, "T": 12, "H": 32, "A": 2, "K": 16, "I": 64, "V": 512}
    told = {}
    for line in (GUIDES / "inside.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) != 5 or not cells[1].startswith("`"):
            continue
        first, *others = cells[1].replace("`", "").split()
        shape = tuple(sizes[letter] for letter in cells[2].partition("]")[0].strip("[").split(", "))
        for name in (first, *(first.rpartition(".")[0] + other for other in others)):
            for layer in (0, 1) if "layer_i" in name else (0,):
                told[name.replace("layer_i", f"layer_{layer}")] = shape
    found = {name: array.shape for name, array in cache.items()}
    assert told.keys() == found.keys()
    broadcast = {"embeddings.position", "embeddings.segment"}
    assert {name: told[name] for name in told if name not in broadcast} == {
        name: found[name] for name in found if name not in broadcast
    }
