"""A page about a run, whatever its files hold."""

from __future__ import annotations

import json
import re

import pytest

from mini_bert.reports.run_details import run_details
from mini_bert.reports.runs import run_heading, run_tables, runs_table
from mini_bert.training.run_folders import read_contents, summary

RECORDS = [
    {"kind": "evaluation", "step": 0, "loss": 9.0, "top1": 0.0},
    {"kind": "start", "step": 0, "steps": 40, "environment": {"numpy": "2"}, "data_sha256": "d"},
    *({"kind": "train", "step": step, "loss": 5.0 / step, "lr": 1e-3, "grad_norm": 1.0} for step in range(1, 41)),
    {"kind": "evaluation", "step": 40, "loss": 0.0, "top1": 0.5},
]
START = {
    "time": "2025-11-21T10:00:00.000+00:00",
    "first_step": 0,
    "threads": 2,
    "ranks": 1,
    "command": ["mini-bert", "pretrain", "--corpus", "my texts/*.txt"],
    "environment": {"numpy": "2", "machine": "Linux"},
    "git": {"commit": "abc", "dirty": True},
    "end": {"step": 40, "seconds": 65.0, "ended": "finished", "sha256": "f" * 64},
}
MANIFEST = {"format_version": 1, "run": "r", "data_sha256": "d", "config": {"train": {"lr": 0.5}}, "starts": [START]}
ODD = [None, True, "x", [], [1], {}, {"a": 1}, -1, 10**30, float("inf")]


def write(run, records=RECORDS, manifest=MANIFEST):
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (run / "manifest.json").write_text(json.dumps(manifest))
    return run


def page(run):
    known = run_details(run)
    json.dumps(known)
    return "\n".join([run_heading(known), *(table.plain() for table in run_tables(known))])


def test_the_page_says_what_the_files_say(tmp_path):
    text = page(write(tmp_path))
    for part in (
        "step 40 of 40, held-out loss 0.0000 (best 0.0000 at step 40)",
        "train.lr  0.5    0.001",
        "abc with changes",
        "command: mini-bert pretrain --corpus 'my texts/*.txt'",
        "2025-11-21 10:00:00          0        2      1  —     finished       40  1.1 min",
    ):
        assert part in text, text
    course = run_details(tmp_path)["course"]
    assert len(course) == 12
    assert (course[0]["step"], course[-1]["step"]) == (0, 40)
    assert run_details(tmp_path)["train_losses"][1] == [2, 2.5]


def test_tasks_and_masking_rates_stand_in_the_course(tmp_path):
    assert "masking rate" not in page(write(tmp_path))
    more = {"train": {"masking_rate": 0.214}, "evaluation": {"token_order_accuracy": 0.912, "token_order_loss": 0.3}}
    text = page(write(tmp_path, [{**record, **more.get(record["kind"], {})} for record in RECORDS]))
    assert re.search(r"held-out accuracy +token order +gradient norm +learning rate +masking rate", text)
    assert re.search(r"^ *40 .* 91\.2 % .* 21\.4 % ", text, re.MULTILINE)


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_no_value_of_a_foreign_file_ends_in_a_traceback(tmp_path, odd):
    for record in ({"kind": "train", "step": 1, "loss": 1.0, "lr": 1.0}, *RECORDS[:2], RECORDS[-1]):
        for key in record:
            page(write(tmp_path, [*RECORDS[:3], {**record, key: odd}]))
    for key in START:
        page(write(tmp_path, manifest={**MANIFEST, "starts": [{**START, key: odd}]}))
    for key in START["end"]:
        page(write(tmp_path, manifest={**MANIFEST, "starts": [{**START, "end": {**START["end"], key: odd}}]}))
    for key in MANIFEST:
        page(write(tmp_path, manifest={**MANIFEST, key: odd}))
    for config in ({"train": odd}, {"train": {"steps": odd}}, {"train": {"lr": odd}}, {"odd": {"x": odd}}):
        page(write(tmp_path, [], {**MANIFEST, "config": config}))
    for name in ("lock", "incident-3.json", "latest", "best", "run.log"):
        write(tmp_path)
        (tmp_path / name).write_text(json.dumps(odd) + "\n")
        page(tmp_path)
        runs_table([summary(read_contents(tmp_path))], tmp_path).plain()
