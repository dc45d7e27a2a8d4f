"""Drawn cells hold the numbers they were given, in all three forms."""

from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console

from mini_bert.errors import DataError
from mini_bert.evaluation.projection import project
from mini_bert.reports.__main__ import main
from mini_bert.reports.evaluation import differences_table, evaluation_table, overfit_table
from mini_bert.reports.pages import page, tables
from mini_bert.reports.progression import progression_of, progression_table
from mini_bert.reports.projection import projection_table
from mini_bert.reports.table import Table


def line(name, label, loss, perplexity):
    return {
        "name": name,
        "label": label,
        "loss": loss,
        "loss_interval": [loss - 0.1, loss + 0.1],
        "perplexity": perplexity,
        "perplexity_interval": [1, 2],
        "top1": 0.3175,
        "top1_interval": [0.3033, 0.3321],
        "top5": 0.5,
        "top5_interval": [0.48, 0.52],
        "n_masked": 4642,
        "n_rows": 499,
    }


RESULT = {
    "kind": "evaluation",
    "quick": False,
    "table": [line("model", "Mini-BERT", 4.2, 66.69), line("unigram", "unigram", 800.0, None)],
    "differences": [{"name": "unigram", "label": "unigram", "loss": -1.25, "interval": [-1.3, -1.2]}],
    "every_token": {"accuracy": 0.865, "interval": [0.86, 0.87], "n": 25_913, "copying": 0.872},
    "baselines": {"n_tokens": 950_649, "tuned_on": 48_704, "theta_left": 1.5, "theta_right": 2.0, "gamma": 0.95},
    "held_out": {"masked": 4642, "rows": 499},
    "seconds": 17.7,
    "peak_memory_bytes": 288_000_000,
}


def test_evaluation():
    table = evaluation_table(RESULT)
    assert table.rows == (
        ("Mini-BERT", "4.20 ± 0.10", "66.7", "31.8 ± 1.5 %", "50.0 %"),
        ("unigram", "800.00 ± 0.10", "—", "31.8 ± 1.5 %", "50.0 %"),
    )
    assert "4,642" in table.title
    assert table.strong == (0,)
    notes = " ".join(table.notes)
    for said in ("950,649", "48,704", "θ 1.5 and 2", "γ 0.95", "87.2 %", "288 MB", "17.7 s"):
        assert said in notes
    assert differences_table(RESULT).rows == (("unigram", "-1.250", "-1.300 – -1.200"),)
    quick = evaluation_table({**RESULT, "quick": True, "every_token": None})
    assert quick.title.endswith("(quick)")
    assert "restored" not in " ".join(quick.notes)


def test_projection_stands_beside_every_budget():
    result = project(step_seconds=0.23, training_bytes=4.1e8, evaluation_seconds=17.7)
    table = projection_table(result)
    assert table.rows == (
        ("time of 100,000 steps", "6.4 h", "≤ 12.0 h", "1.7 h", "within budget"),
        ("memory of training", "410 MB", "≤ 10 GB", "200 MB", "within budget"),
        ("the same, estimated from shapes", "—", "≤ 10 GB", "200 MB", "not measured"),
        ("time of evaluation", "17.7 s", "≤ 1.0 h", "1.0 min", "as hoped"),
        ("memory of evaluation", "—", "≤ 3 GB", "—", "not measured"),
    )
    assert table.notes[0] == "Measured: 230 ms a step on this machine."


def test_progression_has_the_hoped_for_values_and_the_remark():
    table = progression_table(
        {0: {"accuracy": 0.0012, "perplexity": 8550}, 2600: {"accuracy": 0.31, "perplexity": 66.7}}
    )
    assert [row[0] for row in table.rows] == ["untrained", "2,600 steps", "10,000 steps", "100,000 steps"]
    assert table.rows[0] == ("untrained", "0–5 %", "0.1 %", "> 1000", "8,550", "60–70 %", "—", "about 50 %", "—")
    assert table.rows[1] == ("2,600 steps", "—", "31.0 %", "—", "66.7", "—", "—", "—", "—")
    assert table.rows[3] == ("100,000 steps", "60–70 %", "—", "15–25", "—", "90–95 %", "—", "80–85 %", "—")
    assert table.strong == (1,)
    assert "37 % at perplexity 24" in table.notes[0]
    assert "72 % at 3.6" in table.notes[0]


def test_progression_is_read_off_what_was_measured_at_each_step():
    def assessed(perplexity):
        lines = [
            line("model", "Mini-BERT", 4.2, perplexity),
            line("untrained", "", 9, 8000),
            line("unigram", "", 7, 900),
        ]
        masked_lm = {"name": "masked_lm", "result": {"kind": "evaluation", "table": lines}}
        return {"parts": [masked_lm, {"name": "pos", "left_out": "No data."}]}

    history = {"kind": "history", "steps": [0, 300], "assessments": [assessed(8192.0), assessed(900.0)]}
    assert progression_of(history) == {
        0: {"accuracy": 0.3175, "perplexity": 8192.0},
        300: {"accuracy": 0.3175, "perplexity": 900.0},
    }


def test_overfit_says_so_when_it_did_not_pass():
    result = {"passed": False, "steps": 3, "loss": 4.0, "accuracy": 0.05, "n_masked": 20, "message": "Not learned."}
    table = overfit_table(result)
    assert table.rows == (("NOT PASSED", "3", "4.0000", "5.0 %", "20"),)
    assert table.notes == ("Not learned.",)


TABLE = Table("Title", ("", "a|b", "n"), (("[bold]x", "日本", "1"), ("y", "*", "22")), ("note",), strong=(1,))


def test_markdown_escapes_and_emphasises():
    assert TABLE.markdown() == (
        "**Title**\n\n|  | a\\|b | n |\n| :--- | ---: | ---: |\n"
        "| [bold]x | 日本 | 1 |\n| **y** | **\\*** | **22** |\n\n- note\n"
    )


def test_plain_columns_line_up():
    assert TABLE.plain() == (
        "Title\n          a|b   n\n-------  ----  --\n[bold]x  日本   1\ny           *  22\nnote\n"
    )


def test_rich_shows_text_as_it_is():
    out = io.StringIO()
    Console(file=out, width=60).print(TABLE.rich())
    shown = out.getvalue()
    assert "[bold]x" in shown
    assert re.search(r"y\s+\*\s+22", shown)
    assert "note" in shown


def test_page_from_files_by_the_command(tmp_path, capsys):
    both = {"about": "Ten minutes.", "results": [RESULT, project(step_seconds=0.2)]}
    source, target = tmp_path / "demo.json", tmp_path / "demo.md"
    source.write_text(json.dumps(both), encoding="utf-8")
    assert main([str(source), "--title", "The demo", "--output", str(target)]) == 0
    text = target.read_text(encoding="utf-8")
    assert text == page("The demo", [("demo.json", both)])
    assert text.startswith('# The demo\n\n*Made by `python -m mini_bert.reports --title "The demo" demo.json`.*\n')
    assert "Ten minutes." in text
    assert text.count("\n| :---") == 3
    assert main([str(source)]) == 0
    assert "# Results" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content",
    ["", "[1]", '{"kind": "evaluatio"}', '{"kind": "evaluation"}', '{"kind": "projection", "budgets": 3}', "{}"],
)
def test_what_is_no_result_is_refused_in_words(tmp_path, capsys, content):
    source = tmp_path / "result.json"
    source.write_text(content, encoding="utf-8")
    assert main([str(source)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "expected" in message
    assert main([str(tmp_path / "none.json")]) == 2


def test_a_mistyped_kind_is_given_its_nearest():
    with pytest.raises(DataError, match="Did you mean 'evaluation'"):
        tables({"kind": "evaluatio"})


def test_progression_from_json():
    (table,) = tables({"kind": "progression", "measured": {"100000": {"accuracy": 0.4}}})
    assert table.rows[-1][2] == "40.0 %"


def test_latex_escapes_what_latex_reads_as_its_own():
    table = Table(
        "50 % of a_b", ("name", "Δ & more"), (("x_1 {y}", "−0.5 ± 0.1"), ("best", "10¹⁵")), ("a^b ~ c\\d",), strong=(1,)
    )
    assert table.latex().splitlines() == [
        r"\begin{table}",
        r"\caption{50 \% of a\_b}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"name & Δ \& more \\",
        r"\midrule",
        r"x\_1 \{y\} & $-$0.5 $\pm$ 0.1 \\",
        r"\textbf{best} & \textbf{10$^1$$^5$} \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\footnotesize a\textasciicircum{}b \textasciitilde{} c\textbackslash{}d",
        r"\end{table}",
    ]
