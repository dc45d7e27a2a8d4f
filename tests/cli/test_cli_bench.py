from __future__ import annotations

import mini_bert.benchmarks.suite
import mini_bert.benchmarks.tables
from mini_bert.cli import main
from mini_bert.errors import MissingExtraError


class _Result:
    def model_dump_json(self, indent: int) -> str:
        return "{}"


def test_bench_hands_its_options_on_and_prints_what_came_back(capsys, monkeypatch):
    asked = {}

    def run_benchmark(*, report, **options):
        asked.update(options)
        report("measuring")
        return _Result()

    monkeypatch.setattr(mini_bert.benchmarks.suite, "run_benchmark", run_benchmark)
    monkeypatch.setattr(mini_bert.benchmarks.tables, "plain_text", lambda result: "a table\n")
    assert main(["bench", "--against", "torch", "--quick", "--out", "there", "--threads", "2", "--rows", "8"]) == 0
    assert asked == {"against": "torch", "quick": True, "output": "there", "threads": 2, "rows": 8}
    assert capsys.readouterr() == ("a table\n", "measuring\n")
    assert main(["bench", "--json"]) == 0
    assert asked == {"against": None, "quick": False, "output": None, "threads": None, "rows": 64}
    assert capsys.readouterr().out == "{}\n"


def test_bench_without_the_extra_says_what_to_install(capsys, monkeypatch):
    def run_benchmark(**_):
        raise MissingExtraError("torch", got="not installed", expected="the extra `reference`")

    monkeypatch.setattr(mini_bert.benchmarks.suite, "run_benchmark", run_benchmark)
    assert main(["bench", "--against", "torch"]) == 2
    assert "`reference`" in capsys.readouterr().err
    assert main(["bench", "--against", "tensorflow"]) == 2


def test_a_folder_that_cannot_be_is_refused_before_anything_is_measured(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(mini_bert.benchmarks.suite, "make_workload", None)
    assert main(["bench", "--quick", "--out", str(tmp_path / "file")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert str(tmp_path / "file") in err.splitlines()[-1]
