"""A MODEL argument: a path, or the name of a run, or a model that comes with the package."""

from __future__ import annotations

from pathlib import Path


def find_model(name: str) -> Path:
    """The folder of a model; training code is imported only where the name is not itself a model folder.

    Raises:
        CheckpointError: there is no such model; the message names the nearest run.
    """
    path = Path(name)
    if (path / "config.json").is_file():
        return path
    from mini_bert.training.model_lookup import find_model as find_in_runs

    return find_in_runs(name)
