"""A published task, learned from the model that is assessed: with defaults that are the same for every model."""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple

from mini_bert.assessment.subject import Subject
from mini_bert.config.load import load_config
from mini_bert.data.sources import cache_home
from mini_bert.data.task_sets.labelled import load_task
from mini_bert.evaluation.finetuning import Finetuning, finetune_task

EPOCHS, SEEDS = 4, (0, 1, 2)


class Quick(NamedTuple):
    """How a quick look learns: from little, in steps enough."""

    examples: int = 2000
    batch_size: int = 16
    epochs: int = 2


QUICK = Quick()


def fine_tuned(subject: Subject, task: str) -> dict[str, Any]:
    """Fine-tune by the preset `training/finetuning`, with three seeds, beside random weights and a bag of words.

    A quick look learns as `QUICK` says, with one seed. The runs lie in the cache under a name that says what is
    learned, from what and how, and go on where they were stopped; to measure again is to learn again.

    Raises:
        Interrupted: a signal ended one of the runs; all is saved.
        DataError: the task's files are not to be had.
    """
    quick = subject.quick
    train = load_task(task).sample(QUICK.examples if quick else None)
    epochs = QUICK.epochs if quick else EPOCHS
    dev = load_task(task, "dev")
    settings: dict[str, Any] = {
        "data.corpus": (task,),
        "tasks.masked_lm": 0.0,
        "tasks.classification": 1.0,
        **({"train.batch_size": QUICK.batch_size} if quick else {}),
    }
    recipe = load_config(["training/finetuning"], settings)
    runs = cache_home() / "assessments" / subject.sha256[:32] / "runs"
    learned = [recipe.model_dump(mode="json"), train.sha256, epochs, str(subject.folder)]
    name = f"{task}-{hashlib.sha256(json.dumps(learned).encode()).hexdigest()[:12]}"
    if subject.again:
        name += f"-{1 + len(list(runs.glob(f'{name}-seed-*')))}"
    run = {"name": name, "directory": str(runs), "resume": "auto", "threads": subject.threads}
    recipe = recipe.model_copy(update={"run": recipe.run.model_copy(update=run)})
    experiment = Finetuning(recipe, subject.model, subject.folder, train, epochs=epochs)
    subject.told(f"fine-tuning: {task}", 0, 0)
    return finetune_task(experiment, dev, SEEDS[:1] if quick else SEEDS, from_scratch=not quick)
