"""What does a MODEL argument mean? A path first, then the name of a run."""

from __future__ import annotations

from pathlib import Path

from mini_bert.errors import CheckpointError, nearest
from mini_bert.training.checkpoint import newest_verified


def find_model(name: str | Path, runs: str | Path = "runs") -> Path:
    """The model folder that `name` means: a folder with `config.json`, a run's folder, or a run's name in `runs`.

    Of a run, it is the newest checkpoint that holds.

    Raises:
        CheckpointError: there is no such model; near names are suggested.
    """
    path, runs = Path(name), Path(runs)
    for candidate in (path, runs / path):
        if (candidate / "config.json").is_file():
            return candidate
        if (candidate / "checkpoints").is_dir():
            newest = newest_verified(candidate)
            if newest.path is not None:
                return newest.path
            raise CheckpointError(
                str(candidate),
                got=newest.rejected[0] if newest.rejected else "a run without a checkpoint",
                expected="a run with a whole checkpoint",
            )
    if path.is_dir():
        raise CheckpointError("MODEL", got=f"{str(name)!r}, a folder without config.json", expected="a model folder")
    known = sorted(folder.parent.name for folder in runs.glob("*/checkpoints"))
    raise CheckpointError(
        "MODEL",
        got=f"{str(name)!r}, which is neither a folder nor a run in {runs}",
        expected="a checkpoint, a Hugging Face folder, or the name of a run",
        advice=nearest(str(name), known) if known else "Train one first: mini-bert pretrain.",
    )
