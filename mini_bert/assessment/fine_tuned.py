"""A published task, learned from the model that is assessed: with defaults that are the same for every model."""

from __future__ import annotations

from typing import Any

from mini_bert.assessment.subject import Subject
from mini_bert.config.load import load_config
from mini_bert.data.sources import cache_home
from mini_bert.data.task_sets.labelled import load_task
from mini_bert.evaluation.finetuning import Finetuning, finetune_task

EPOCHS, SEEDS = 4, (0, 1, 2)
QUICK_EXAMPLES = 500


def fine_tuned(subject: Subject, task: str) -> dict[str, Any]:
    """Fine-tune by the preset `training/finetuning`, with three seeds, beside random weights and a bag of words.

    A quick look learns from 500 examples for one epoch, with one seed. The runs lie in the cache, and go on where they
    were stopped.

    Raises:
        Interrupted: a signal ended one of the runs; all is saved.
        DataError: the task's files are not to be had.
    """
    quick = subject.quick
    train = load_task(task)
    dev = load_task(task, "dev")
    settings = {
        "data.corpus": (task,),
        "tasks.masked_lm": 0.0,
        "tasks.classification": 1.0,
        "run.name": f"{task}{'-quick' if quick else ''}",
        "run.directory": str(cache_home() / "assessments" / subject.sha256[:32] / "runs"),
        "run.resume": "auto",
        "run.threads": subject.threads,
    }
    experiment = Finetuning(
        load_config(["training/finetuning"], settings),
        subject.model,
        subject.folder,
        train.sample(QUICK_EXAMPLES if quick else None),
        epochs=1 if quick else EPOCHS,
    )
    subject.told(f"fine-tuning: {task}", 0, 0)
    return finetune_task(experiment, dev, SEEDS[:1] if quick else SEEDS, from_scratch=not quick)
