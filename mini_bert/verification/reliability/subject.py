"""The training that is stopped, killed and starved: a process of its own over a small made-up corpus.

    python -m mini_bert.verification.reliability.subject '{"settings": {...}, "stop_at": 7}'

It trains as `mini-bert pretrain` does (the preset training/debugging: L=2 H=32 A=2 I=64 T=32, 40 steps of 8 rows) and
prints one line of JSON: `{"step": 40, "sha256": "…", "losses": [[1, 6.2], …]}`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mini_bert.atomic_files import replace_file

STEPS = 40
SETTINGS: dict[str, Any] = {
    "model.vocab_size": 96,
    "train.steps": STEPS,
    "train.log_every": 1,
    "train.save_every": 10,
    "train.evaluate_every": 20,
    "run.threads": 1,
}
"""On top of training/debugging."""


class Ended(NamedTuple):
    """How a subject ended."""

    code: int
    """Its exit code; negative: the signal that killed it."""
    result: dict[str, Any]
    """What it printed: `step`, `sha256`, `losses`; empty if it did not come so far."""
    errors: str
    """Its standard error."""


class Subject:
    """A small training in `folder`, started as often as one likes.

    Fields: `run`, its run folder; `environment`, of its processes.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        """`settings` are those of the configuration, `train__steps=40` for `train.steps`."""
        self.folder = folder
        self.settings = {
            **SETTINGS,
            "data.corpus": [str(folder / "corpus" / "*.txt")],
            "run.directory": str(folder / "runs"),
            "run.name": "subject",
            **{name.replace("__", "."): value for name, value in settings.items()},
        }
        self.environment = {**os.environ, "MINI_BERT_CACHE": str(folder / "cache"), "OPENBLAS_NUM_THREADS": "1"}
        if not (folder / "corpus").exists():
            write_corpus(folder / "corpus")

    @property
    def run(self) -> Path:
        """The run's folder."""
        return Path(self.settings["run.directory"]) / self.settings["run.name"]

    def command(self, *, stop_at: int | None = None, resume: str | None = None, **settings: Any) -> list[str]:
        """The command of a process that trains; it sends itself SIGTERM when step `stop_at` is done."""
        changed = {name.replace("__", "."): value for name, value in settings.items()}
        order = {"settings": {**self.settings, "run.resume": resume, **changed}, "stop_at": stop_at}
        return [sys.executable, "-m", __spec__.name if __spec__ else __name__, json.dumps(order)]

    def train(
        self,
        *,
        stop_at: int | None = None,
        resume: str | None = None,
        launcher: Sequence[str] = (),
        timeout: float = 300.0,
        **settings: Any,
    ) -> Ended:
        """Train in a new process to the end, to a stop, or to a failure.

        Args:
            stop_at: SIGTERM after this step.
            resume: `auto` or a checkpoint's path.
            launcher: words before the command, such as `mpirun -n 2`.
            timeout: seconds.
            **settings: changed for this start only.
        """
        done = subprocess.run(
            [*launcher, *self.command(stop_at=stop_at, resume=resume, **settings)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Ended(done.returncode, _last_json(done.stdout), done.stderr)

    def start(self, **options: Any) -> subprocess.Popen[str]:
        """Start a process that trains, and do not wait for it."""
        return subprocess.Popen(
            self.command(**options),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def write_corpus(folder: Path, documents: int = 60, words: int = 60) -> None:
    """Documents of made-up words, the same on every machine."""
    from mini_bert.random_streams import RandomStream

    syllables = ("ba", "ke", "lo", "mi", "nu", "ra", "se", "ti")
    lengths = 1 + RandomStream(5, "lexicon/lengths").integers(3, 80)[:, 0]
    sounds = RandomStream(5, "lexicon/syllables").integers(8, 80, 3)
    lexicon = ["".join(syllables[sound] for sound in sounds[word, :length]) for word, length in enumerate(lengths)]
    drawn = (80 * RandomStream(5, "corpus").uniform(documents, words) ** 2).astype(int)
    folder.mkdir(parents=True)
    for number, row in enumerate(drawn):
        replace_file(folder / f"{number:02}.txt", (" ".join(lexicon[word] for word in row) + ".\n").encode())


def losses(run: Path) -> list[tuple[int, float | None]]:
    """Step and loss of every training record of a run's log."""
    from mini_bert.training.metrics_log import read_metrics

    records = read_metrics(run / "metrics.jsonl")
    return [(record["step"], record["loss"]) for record in records if record["kind"] == "train"]


def _last_json(output: str) -> dict[str, Any]:
    lines = [line for line in output.splitlines() if line.startswith("{")]
    return dict(json.loads(lines[-1])) if lines else {}


def main(words: Sequence[str]) -> int:
    """Train as the one word, a JSON object, says; the exit codes are those of `mini-bert`."""
    order: Mapping[str, Any] = json.loads(words[0])

    from mini_bert.config.load import load_config
    from mini_bert.errors import MiniBertError
    from mini_bert.training.pretrain import pretrain
    from mini_bert.training.ranks import ranks_of_this_job
    from mini_bert.training.report import Report
    from mini_bert.training.step import StepResult

    class Stop(Report):
        def ticked(self, result: StepResult) -> None:
            if result.step == order.get("stop_at"):
                os.kill(os.getpid(), signal.SIGTERM)

        def warned(self, message: str) -> None:
            print(f"Warning: {message}", file=sys.stderr, flush=True)

    try:
        ranks = ranks_of_this_job()
        with ranks.together():
            config = load_config(["training/debugging"], order["settings"])
            result = pretrain(config, report=Stop(), ranks=ranks)
            if ranks.first:
                ended = {"step": result.step, "sha256": result.sha256, "losses": losses(result.run)}
                print(json.dumps(ended), flush=True)
    except MiniBertError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    return 128 + result.signal if result.signal else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
