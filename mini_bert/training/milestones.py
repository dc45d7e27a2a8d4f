"""What did it know after so many steps? Models on the way, kept for good, without optimiser.

    runs/<name>/milestones/step-100/        a model folder that opens everywhere; there is no going on from it

A milestone is written before the checkpoint of its step: a run that is killed between the two writes it once more,
with the same bits.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from mini_bert.model.bert import MiniBERT
from mini_bert.model.pretrained import save_pretrained

FOLDER = "milestones"
_NAME = re.compile(r"step-(\d+)")


def keep_milestone(run: Path, model: MiniBERT, step: int) -> Path:
    """Write the model of a step into the run's folder; call it while holding the run's lock.

    Raises:
        StorageError: it cannot be written.
    """
    folder = run / FOLDER
    for stale in folder.glob(".tmp-*"):
        shutil.rmtree(stale, ignore_errors=True)
    save_pretrained(model, folder / f"step-{step}")
    return folder / f"step-{step}"


def milestones(run: Path) -> dict[int, Path]:
    """The model folders of a run's milestones by step, the earliest first."""
    found = {
        int(name[1]): path
        for path in (run / FOLDER).glob("step-*")
        if (name := _NAME.fullmatch(path.name)) and (path / "config.json").is_file()
    }
    return dict(sorted(found.items()))
