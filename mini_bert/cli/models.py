"""A MODEL argument: a path, the name of a run, a model that comes along, or organisation/model on the Hub."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mini_bert.errors import InvalidInputError
from mini_bert.model.shipped import DEFAULT, shipped_model

if TYPE_CHECKING:
    from mini_bert.model.bert import MiniBERT


FILLS_NO_MASKS = "If it was fine-tuned, use the run that it began from."
"""Advice for who gives a model without a head for masks to a verb that asks by masks."""


def find_model(name: str, argument: str = "MODEL") -> Path:
    """The folder of a model; training code is imported only where the name means a run, or something on the Hub.

    `argument` is what an error names.

    Raises:
        CheckpointError: there is no such model; the message names the nearest run.
        MissingExtraError: it may be on the Hub, and `huggingface_hub` is not installed.
    """
    path = Path(name)
    with suppress(OSError):  # a name that is too long: said by who looks further
        if (path / "config.json").is_file():
            return path
        if (folder := shipped_model(name)) is not None and not path.exists() and not Path("runs", name).exists():
            return folder
    from mini_bert.training.model_lookup import find_model as find_in_runs

    return find_in_runs(name, argument=argument)


def model_and_texts(model: str, texts: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """What two positional arguments mean where the first can be left out: a sentence is no name of a model.

    What has a blank or a [MASK] in it, and is nothing that exists, is the first of the texts for the model that comes
    with the package.
    """
    if "[MASK]" not in model and not any(map(str.isspace, model)):
        return model, texts
    with suppress(OSError, ValueError):  # too long for a name, or a NUL byte: a text, or to be refused as one
        if Path(model).exists() or Path("runs", model).exists():
            return model, texts
    return DEFAULT, (model, *texts)


def open_model(name: str, head: str, advice: str) -> MiniBERT:
    """The model of this name, which has to have a head; `advice` is for one that has not.

    Raises:
        CheckpointError, MissingExtraError: as `find_model`.
        InvalidInputError: it does not have the head.
    """
    from mini_bert.model.bert import MiniBERT

    bert = MiniBERT.from_pretrained(find_model(name))
    require_head(bert, head, name, advice)
    return bert


def require_head(bert: MiniBERT, head: str, name: str, advice: str) -> None:
    """Refuse a model without the head; `name` is what it was called by.

    Raises:
        InvalidInputError: it does not have the head.
    """
    if head not in bert.config.heads:
        raise InvalidInputError(
            "MODEL", got=f"{name}, which has no head {head}", expected=f"a model with the head {head}", advice=advice
        )


def require_tokenizer(bert: MiniBERT, folder: Path, argument: str = "MODEL") -> None:
    """Refuse a model that reads ids alone; `folder` is where it lies, `argument` what an error names.

    Raises:
        InvalidInputError: it has no tokenizer.
    """
    if bert.tokenizer is None:
        raise InvalidInputError(argument, got=f"{folder}, a model without a tokenizer", expected="vocab.txt beside it")


def trained_by(folder: Path) -> Path | None:
    """The `config.yaml` by which a model was trained; None where there is none.

    It lies beside a model that comes with the package, and two folders above a checkpoint or a milestone of a run.
    """
    folder = folder.resolve()
    for home in (folder, folder.parent.parent):
        if (home / "config.yaml").is_file():
            return home / "config.yaml"
    return None
