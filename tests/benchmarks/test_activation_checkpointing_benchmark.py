"""Activation checkpointing over depth: what is measured, shown and written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mini_bert.benchmarks import activation_checkpointing
from mini_bert.benchmarks.activation_checkpointing import main, measure, table


def test_memory_is_less_and_grows_slower() -> None:
    result = measure([1, 3], rounds=1, rows=2)
    one, three = result["entries"]
    assert [entry["layers"] for entry in (one, three)] == [1, 3]
    assert three["again"]["peak_bytes"] < three["kept"]["peak_bytes"]
    grown = {way: three[way]["peak_bytes"] - one[way]["peak_bytes"] for way in ("kept", "again")}
    assert grown["again"] < grown["kept"]
    assert all(len(entry[way]["seconds"]) == 1 for entry in (one, three) for way in ("kept", "again"))


def test_the_table_says_medians_and_ratios() -> None:
    entry = {
        "layers": 4,
        "kept": {"seconds": [0.1, 0.2, 0.9], "peak_bytes": 30_000_000},
        "again": {"seconds": [0.25, 0.25, 0.25], "peak_bytes": 20_000_000},
    }
    made = table({"entries": [entry], "rows": 2, "tokens": 64, "hidden_size": 8, "blas": "b", "date": "2026-01-02T"})
    assert made.rows == (("4", "30", "20", "1.50", "200", "250", "1.25", "1.25"),)


@pytest.mark.reference
def test_result_and_picture_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path), "--depths", "1", "2", "--rounds", "1", "--rows", "1"]) == 0
    assert "times less" in capsys.readouterr().out
    result = json.loads((tmp_path / "activation_checkpointing.json").read_bytes())
    assert [entry["layers"] for entry in result["entries"]] == [1, 2]
    assert (tmp_path / "activation_checkpointing.svg").read_text().startswith("<?xml")
    assert main(["--out", str(tmp_path / "missing"), "--depths", "1", "--rounds", "1", "--rows", "1"]) == 2


def test_the_bound_on_time_is_a_third() -> None:
    assert [round(activation_checkpointing._predicted(layers), 3) for layers in (1, 2, 1000)] == [1.0, 1.167, 1.333]
