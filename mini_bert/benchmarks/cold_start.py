"""Seconds from a new process to the result: what somebody waits who types one command."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mini_bert.benchmarks.result import ColdStart
from mini_bert.benchmarks.workload import sentences

_FILL_MASK = "import sys; from mini_bert.cli import main; main(['fill-mask', sys.argv[1], sys.argv[2]])"

_TRANSFORMERS_FILL_MASK = """
import sys, torch
from transformers import BertForMaskedLM, BertTokenizerFast
tokenizer, model = BertTokenizerFast.from_pretrained(sys.argv[1]), BertForMaskedLM.from_pretrained(sys.argv[1]).eval()
encoded = tokenizer(sys.argv[2], return_tensors="pt")
with torch.inference_mode():
    best = model(**encoded).logits[encoded["input_ids"] == tokenizer.mask_token_id].softmax(-1).topk(5)
print(tokenizer.convert_ids_to_tokens(best.indices[0]))
"""


def measure_cold_starts(
    model_folder: Path, *, against_torch: bool, starts: int, report: Callable[[str], None] = lambda message: None
) -> list[ColdStart]:
    """Start each program `starts` times, in turn, after one start that warms the file cache."""
    arguments = [str(model_folder), sentences(1)[0]]
    programs = {
        "python": ("python alone", ["-c", "pass"]),
        "numpy": ("import numpy", ["-c", "import numpy"]),
        "mini_bert": ("import mini_bert", ["-c", "import mini_bert"]),
        "fill-mask": ("mini-bert fill-mask", ["-c", _FILL_MASK, *arguments]),
    }
    if against_torch:
        programs["torch"] = ("import torch", ["-c", "import torch"])
        programs["transformers-fill-mask"] = ("the same with transformers", ["-c", _TRANSFORMERS_FILL_MASK, *arguments])
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(starts + 1):
        for name, (title, command) in programs.items():
            report(f"cold start {number} of {starts}: {title}")
            elapsed = _start(command)
            if number and elapsed is not None:
                seconds[name].append(elapsed)
    return [ColdStart(name=name, title=programs[name][0], seconds=seconds[name]) for name in programs]


def _start(command: list[str]) -> float | None:
    """Wall time of one start; None where the program failed."""
    environment = dict(os.environ)
    package = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package, environment.get("PYTHONPATH", "")]))
    begin = time.perf_counter()
    finished = subprocess.run([sys.executable, *command], env=environment, capture_output=True, check=False)
    elapsed = time.perf_counter() - begin
    return elapsed if finished.returncode == 0 else None
