"""What does a bug do? A process of its own, with the bug injected or with none, measures it and prints it as JSON.

python -m mini_bert.verification.bugs.experiment mask-inverted
python -m mini_bert.verification.bugs.experiment none --seed 1
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from mini_bert.errors import InvalidInputError, MiniBertError, nearest
from mini_bert.verification.bugs import BUGS
from mini_bert.verification.bugs.bug import Bug
from mini_bert.verification.bugs.measurement import model_errors, operation_errors
from mini_bert.verification.bugs.training_run import small_training
from mini_bert.verification.injection import edited_sources, inject

NONE = "none"
"""What stands for no bug where a name is asked for."""

SECONDS = 300
"""A measurement that takes longer has hung, which is a symptom too."""


def find(name: str) -> Bug:
    """The bug of that name.

    Raises:
        InvalidInputError: there is none; the message names the nearest.
    """
    if name not in BUGS:
        raise InvalidInputError("NAME", got=repr(name), expected="a bug of the zoo", advice=nearest(name, BUGS))
    return BUGS[name]


def measure(name: str | None, seed: int = 0) -> dict[str, Any]:
    """All that `measurement` and `training_run` say of a bug (None: of no bug), from a process of its own.

    Returns:
        `operations`, `model` and `training`; where the process came to no end, `crash` with its last words instead.
    """
    command = [
        sys.executable,
        "-m",
        "mini_bert.verification.bugs.experiment",
        NONE if name is None else find(name).name,
        "--seed",
        str(seed),
    ]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return {"crash": f"no end after {SECONDS} seconds"}
    if done.returncode != 0:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        return {"crash": last[0] if last else f"exit code {done.returncode}"}
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Inject, measure, print."""
    words = list(sys.argv[1:] if argv is None else argv)
    name = words[0] if words else ""
    seed = int(words[2]) if words[1:2] == ["--seed"] and words[2:3] and words[2].isdecimal() else 0
    if name != NONE:
        inject(edited_sources(find(name).edits))
    result = {
        "operations": operation_errors(),
        "model": model_errors(),
        "training": small_training(seed),
        "python": platform.python_version(),
    }
    print(json.dumps(_finite(result), allow_nan=False))
    return 0


def _finite(value: Any) -> Any:
    """JSON has no infinity: None stands for what is no number."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MiniBertError as wrong:
        sys.exit(f"experiment: {wrong}")
