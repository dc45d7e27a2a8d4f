from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from mini_bert.benchmarks.picture import draw
from mini_bert.benchmarks.result import BenchmarkResult, Scaling
from mini_bert.benchmarks.tables import plain_text, summary
from mini_bert.errors import DataError, MissingExtraError


def test_what_is_written_is_read_back(result: BenchmarkResult, tmp_path: Path) -> None:
    result.write(tmp_path / "benchmark.json")
    assert BenchmarkResult.read(tmp_path / "benchmark.json") == result
    raw = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))
    assert raw["format"] == 1
    assert raw["training"]["entries"][0]["seconds"] == [0.1, 0.1, 0.2]


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2}', "not JSON"])
def test_a_foreign_file_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "benchmark.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"benchmark\.json: got .*; expected a benchmark result of format 1"):
        BenchmarkResult.read(path)


def test_ratios_are_taken_round_by_round(result: BenchmarkResult) -> None:
    # 0.2/0.1, 0.2/0.1, 0.4/0.2: exactly 2 in every round, although both medians and both means hide a slow round.
    assert result.training.speed_up("ours", "torch") == (2.0, 2.0, 2.0)
    assert result.training.speed_up("ours", "transformers") == (3.5, 4.0, 4.5)


def test_rates_and_the_floor(result: BenchmarkResult) -> None:
    ours = result.training.entry("ours")
    assert result.tokens_per_second(ours).median == pytest.approx(40960)
    assert result.floor.seconds.median == pytest.approx(0.08)
    assert result.share_of_floor(ours) == pytest.approx(0.8)


def test_rivals_are_those_that_count_and_finished(result: BenchmarkResult) -> None:
    fastest = {dtype: result.training.fastest_rival(dtype) for dtype in ("float32", "bfloat16", "float64")}
    names = {dtype: entry and entry.name for dtype, entry in fastest.items()}
    assert names == {"float32": "torch", "bfloat16": "torch-bf16", "float64": None}
    leanest = result.training.leanest_rival()
    assert leanest is not None
    assert leanest.peak_bytes == 500_000_000


@pytest.mark.parametrize("exponent", [1.0, 1.5])
def test_the_exponent_of_a_power_law_is_found(exponent: float) -> None:
    tokens = [100, 300, 700, 2000]
    scaling = Scaling(tokens=tokens, seconds=[[0.002 * n**exponent] for n in tokens])
    assert scaling.exponent == pytest.approx(exponent)


def test_the_summary_says_what_was_measured(result: BenchmarkResult) -> None:
    text = "\n".join(summary(result))
    assert "our step reaches 80 % of that" in text
    assert "2.00 times the fastest PyTorch in float32 (torch)" in text
    assert "0.90 times the fastest PyTorch in bfloat16 (torch-bf16)" in text
    assert "4.0 times transformers" in text
    assert "Peak memory 250 MB, 0.50 of the leanest PyTorch" in text
    assert "do not quote" not in text
    busy = result.model_copy(update={"machine": result.machine.model_copy(update={"load_before": 3.0})})
    assert summary(busy)[0].startswith("Other programs were running: do not quote")


def test_the_tables_hold_the_figures_and_the_reasons(result: BenchmarkResult) -> None:
    text = plain_text(result)
    assert "40,960" in text
    assert "torch.compile needs a C++ compiler" in text
    assert "OPENBLAS_CORETYPE=Haswell of this shell is not handed on" in text
    assert "failed" in text  # the program that did not start
    assert f"tokens to the power of {result.scaling.exponent:.2f}" in text
    assert max(map(len, text.splitlines())) <= 150


def test_committed_tables_are_those_of_the_committed_result() -> None:
    results = Path(__file__).parents[2] / "docs" / "results"
    for path in results.glob("benchmark*.json"):
        assert path.with_suffix(".txt").read_text(encoding="utf-8") == plain_text(BenchmarkResult.read(path))


def test_without_matplotlib_the_extra_is_named(
    result: BenchmarkResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"mini-bert\[plots\]"):
        draw(result, tmp_path)


@pytest.mark.reference
def test_the_picture_is_drawn_from_the_file_alone(result: BenchmarkResult, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    result.write(first / "benchmark.json")
    svg, png = draw(result, first)
    again, _ = draw(BenchmarkResult.read(first / "benchmark.json"), second)
    assert svg.read_bytes() == again.read_bytes()
    assert png.read_bytes().startswith(b"\x89PNG")
    picture = svg.read_text(encoding="utf-8")
    assert "40,960" in picture
    assert "the transformers" in picture
    assert "torch-compiled" not in picture  # it has no measurements
