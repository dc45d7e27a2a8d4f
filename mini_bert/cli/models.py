"""A MODEL argument: a path, the name of a run, or organisation/model on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path


def find_model(name: str) -> Path:
    """The folder of a model; training code is imported only where the name is not itself a model folder.

    Raises:
        CheckpointError: there is no such model; the message names the nearest run.
        MissingExtraError: it may be on the Hub, and `huggingface_hub` is not installed.
    """
    path = Path(name)
    if (path / "config.json").is_file():
        return path
    from mini_bert.training.model_lookup import find_model as find_in_runs

    return find_in_runs(name)
