"""The guide to runs names every file and every key that a run leaves, and no key that it does not."""

from __future__ import annotations

import re
from pathlib import Path

from mini_bert.training import run_manifest
from mini_bert.training.metrics_log import read_metrics
from mini_bert.training.pretrain import pretrain

GUIDE = (Path(__file__).parents[2] / "docs" / "guide" / "runs.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in GUIDE.splitlines() if line.startswith("| `")]


def named(text: str) -> set[str]:
    """What stands in backquotes."""
    return set(re.findall(r"`([^`]+)`", text))


def test_files_keys_and_kinds(configured, tokens):
    run = pretrain(configured(train__evaluate_every=20), tokens=tokens, evaluate=lambda model: {"loss": 4.0}).run
    files = {name for row in ROWS if len(row) == 2 for name in named(row[0])}
    for path in run.iterdir():
        assert path.name in files or any(name.startswith(f"{path.name}/") for name in files), path.name

    keys = {next(iter(named(row[0]))): named(row[2].split(" of 95")[0]) for row in ROWS if len(row) == 3}
    for record in read_metrics(run / "metrics.jsonl"):
        told = keys[record["kind"]] | {"kind", "step"}
        assert record.keys() <= told
        if record["kind"] in ("start", "train", "checkpoint"):
            assert record.keys() == told

    manifest = run_manifest.read(run)
    assert manifest is not None
    start = manifest["starts"][0]
    assert start.keys() - {"config_sha256"} <= {name for row in ROWS if len(row) == 2 for name in named(row[0])}
