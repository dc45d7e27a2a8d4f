"""What does a MODEL argument mean? A path, the name of a run, a model that comes along, or a name on the Hub."""

from __future__ import annotations

from pathlib import Path

from mini_bert.errors import CheckpointError, nearest
from mini_bert.interop import hub
from mini_bert.model.shipped import shipped_model, shipped_models
from mini_bert.training.checkpoint_folders import newest_verified

CHOSEN = "model"
"""The folder, in a fine-tuning's run, of the model as it was after the best epoch."""


def find_model(name: str | Path, runs: str | Path = "runs", argument: str = "MODEL") -> Path:
    """The model folder that `name` means: a folder with `config.json`, a run's folder, or a run's name in `runs`.

    Of a run, it is the model that a fine-tuning has chosen, or the newest checkpoint that holds. What is neither may be
    the name of a model that comes with the package; what looks like `organisation/model` is fetched from the Hugging
    Face Hub. `argument` is what an error names.

    Raises:
        CheckpointError: there is no such model; near names are suggested.
        MissingExtraError: it may be on the Hub, and `huggingface_hub` is not installed.
    """
    path, runs = Path(name), Path(runs)
    try:
        for candidate in (path, runs / path):
            if (candidate / "config.json").is_file():
                return candidate
            if (candidate / "checkpoints").is_dir():
                chosen = candidate / CHOSEN
                return chosen if (chosen / "config.json").is_file() else _newest(candidate)
        if (folder := shipped_model(name)) is not None:
            return folder
        if path.is_dir():
            got = f"{str(name)!r}, a folder without config.json"
            raise CheckpointError(argument, got=got, expected="a model folder")
        if hub.is_name(name):
            return hub.fetch(str(name))
    except OSError as error:  # a name that is too long, a folder that may not be entered
        got = f"{str(name)[:80]!r}: {error.strerror}"
        raise CheckpointError(argument, got=got, expected="a model folder that can be read") from error
    beside = (str(path.parent / one.name) for one in path.parent.glob("*") if (one / "config.json").is_file())
    trained = {*(folder.parent.name for folder in runs.glob("*/checkpoints")), *beside}
    advice = nearest(str(name), sorted({*trained, *shipped_models()}))
    if not trained:
        advice = f"{advice} Or train one first: mini-bert pretrain.".strip()
    raise CheckpointError(
        argument,
        got=f"{str(name)!r}, which is neither a folder nor a run in {runs}",
        expected="a checkpoint, a Hugging Face folder, the name of a run, or organisation/model on the Hub",
        advice=f"Name its folder, {path.parent}." if path.is_file() else advice,
    )


def _newest(run: Path) -> Path:
    """The newest checkpoint of a run that holds."""
    newest = newest_verified(run)
    if newest.path is None:
        raise CheckpointError(
            str(run),
            got=newest.rejected[0] if newest.rejected else "a run without a checkpoint",
            expected="a run with a whole checkpoint",
        )
    return newest.path
