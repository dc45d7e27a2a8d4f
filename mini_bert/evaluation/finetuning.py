"""Fine-tuning as an experiment: what is chosen where, over which seeds, and above which floors.

    training set ──► learned from
       └─ selection (a share of it, by a fixed seed) ──► which epoch, which rate, which batch
    dev set ──► scored once, with what was chosen

The epoch is the one with the best score on the selection, the earlier of two that tie. With a grid, batch and rate are
those of the best such score with the first seed. Then every seed is trained with them, and scored on dev. Beside the
model stand floors on the very same examples: the majority (or the mean), a bag of words, and the same network from
random weights, with a rate of its own choice; and, where asked for, the weights of another task's fine-tuning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mini_bert.config.schema import Config
from mini_bert.data.task_sets.labelled import LabelledSet, split_off
from mini_bert.errors import CheckpointError, DataError, InvalidInputError, MissingExtraError
from mini_bert.evaluation.bag_of_words import bag_of_words
from mini_bert.evaluation.classification import evaluate_labelled, model_outputs, scores
from mini_bert.evaluation.error_patterns import error_patterns
from mini_bert.inference.tokenizer_of import tokenizer_of
from mini_bert.metrics.paired_seeds import paired_mean
from mini_bert.model.bert import MiniBERT
from mini_bert.model.pretrained import from_pretrained, save_pretrained
from mini_bert.training.finetune import finetune, finetune_config
from mini_bert.training.model_lookup import CHOSEN
from mini_bert.training.report import Report
from mini_bert.training.run_folders import read_contents

if TYPE_CHECKING:
    from mini_bert.data.tokens import TokenCorpus

BATCHES, RATES = (16, 32), (3e-4, 1e-4, 5e-5, 3e-5)
"""BERT's grid, with the rates of its small models (Devlin et al. 2019, A.3; Turc et al. 2019)."""
RATES_FROM_SCRATCH = (1e-3, 3e-4)
"""Random weights need a higher rate than trained ones."""

_SEED_BOUND = 1 << 64

Display = Callable[[], AbstractContextManager[Report]]


class Recipe(NamedTuple):
    """What a grid chooses."""

    batch_size: int
    lr: float


class Trial(NamedTuple):
    """A fine-tuning that is done."""

    run: Path
    seed: int
    recipe: Recipe
    epochs: list[dict[str, float]]
    """Epoch from 1, loss and score on the selection."""
    chosen: int
    """The best epoch."""
    score: float
    """Its score on the selection."""
    seconds: float
    """Of training, evaluations not counted."""

    @property
    def model(self) -> MiniBERT:
        """As it was at the end of the chosen epoch."""
        return from_pretrained(self.run / CHOSEN)


class Interrupted(Exception):
    """A signal ended a run; everything is saved."""

    def __init__(self, run: Path, signal: int) -> None:
        self.run, self.signal = run, signal
        super().__init__(str(run))


class Finetuning:
    """The fine-tunings of one task, from one model.

    Args:
        config: rate, batch, dropout, seed and place of the runs; `run.name` begins the name of each run.
        given: the model to begin with, with its tokenizer.
        start: the folder that it was read from.
        train: all that may be learned from; a part of it is set aside to choose by (`data.held_out_fraction` of it, at
            most `data.held_out_rows`).
        epochs: of each fine-tuning.
        replay: running text that is learned beside the labels, where `tasks.masked_lm` has a weight.
        display: what is told of each training.

    Raises:
        InvalidInputError: the model has no tokenizer, or there is no epoch.
        DataError: there are too few examples, or only of one class.
    """

    def __init__(
        self,
        config: Config,
        given: MiniBERT,
        start: str | Path,
        train: LabelledSet,
        *,
        epochs: int = 4,
        replay: TokenCorpus | None = None,
        display: Display | None = None,
    ) -> None:
        tokenizer_of(given, "given")  # refused before anything is trained
        if epochs < 1:
            raise InvalidInputError("epochs", got=epochs, expected="at least 1")
        data = config.data
        self.train, self.selection = split_off(train, data.held_out_fraction, data.held_out_rows)
        if not self.train.regression and len(found := set(self.train.labels.tolist())) < 2:
            left, aside = len(self.train.examples), len(self.selection.examples)
            raise DataError(
                f"the training set {train.name}",
                got=f"only '{self.train.classes[int(found.pop())]}' in the {left} examples that are left when {aside} "
                "are set aside to choose by",
                expected="two classes",
                advice="Give more examples of the others.",
            )
        self._config, self._given, self.start, self._epochs = config, given, str(start), epochs
        self._replay = replay
        self._display = display or (lambda: nullcontext(Report()))
        self.training_seconds = 0.0
        """Of all trials so far, in however many sittings."""

    @property
    def recipe(self) -> Recipe:
        """That of the configuration."""
        return Recipe(self._config.train.batch_size, self._config.train.lr)

    def trial(
        self,
        name: str,
        seed: int,
        recipe: Recipe | None = None,
        *,
        transfer: str | None = None,
        from_scratch: bool = False,
        replay: bool = True,
    ) -> Trial:
        """Fine-tune once, and keep the best epoch's model in the folder `model` of the run.

        Args:
            name: what is added to `run.name`.
            seed: of the new head, the order and the dropout.
            recipe: None: that of the configuration.
            transfer: the folder of other weights to begin with than those given.
            from_scratch: begin with random weights instead.
            replay: learn the running text along, where there is one.

        Raises:
            Interrupted: by a signal; all is saved.
            MiniBertError: as `finetune`.
        """
        recipe = recipe or self.recipe
        text = self._replay if replay else None
        base = self._config
        base = base.model_copy(
            update={
                "train": base.train.model_copy(update=recipe._asdict()),
                "run": base.run.model_copy(update={"seed": seed, "name": f"{base.run.name}-{name}"}),
                "tasks": base.tasks.model_copy(update={} if text is not None else {"masked_lm": 0.0}),
            }
        )
        start = None if from_scratch else transfer or self.start
        config = finetune_config(base, self._given, start, self.train, self._epochs)
        with self._display() as report:
            result = finetune(
                config, self.train, tokenizer_of(self._given), replay=text, evaluate=self.on_selection, report=report
            )
        if result.interrupted:
            assert result.signal is not None
            raise Interrupted(result.run, result.signal)
        steps = config.train.evaluate_every
        contents = read_contents(result.run)
        records = [record for record in contents.of("evaluation") if record["step"] > 0]
        epochs = [
            {"epoch": record["step"] // steps, "loss": record["loss"], "score": record["score"]} for record in records
        ]
        chosen = max(epochs, key=lambda epoch: (epoch["score"], -epoch["epoch"]))
        number = int(chosen["epoch"])
        folder = result.run / "checkpoints" / f"checkpoint-{number * steps}"
        if not folder.is_dir():
            raise CheckpointError(str(folder), got="no such checkpoint", expected=f"that of the best epoch, {number}")
        save_pretrained(from_pretrained(folder), result.run / CHOSEN)
        seconds = float(contents.of("train")[-1]["seconds"])
        self.training_seconds += seconds
        return Trial(result.run, seed, recipe, epochs, number, chosen["score"], seconds)

    def on_selection(self, model: MiniBERT) -> dict[str, float]:
        """Loss and score on what epochs and rates are chosen by."""
        measured = scores(model_outputs(model, self.selection), self.selection)
        shown = {"loss": measured["loss"], "total_loss": measured["loss"], "score": measured["score"]}
        if not self.selection.regression:
            shown |= {"classification_accuracy": measured["accuracy"], "classification_loss": measured["loss"]}
        return shown

    def best_of(
        self, name: str, recipes: Sequence[Recipe], seed: int, *, from_scratch: bool = False, replay: bool = True
    ) -> tuple[Trial, list[Trial]]:
        """The trial with the best score on the selection, the first of equals, and all of them; the rest as `trial`."""
        trials = [
            self.trial(f"{name}-{r.batch_size}-{r.lr:g}", seed, r, from_scratch=from_scratch, replay=replay)
            for r in recipes
        ]
        return max(trials, key=lambda trial: trial.score), trials


def finetune_task(
    experiment: Finetuning,
    dev: LabelledSet,
    seeds: Sequence[int] = (0, 1, 2),
    *,
    grid: bool = False,
    from_scratch: bool = False,
    transfer: str | None = None,
) -> dict[str, Any]:
    """Choose, train with every seed, score on `dev` once, and set floors beside it: plain values for JSON.

    Args:
        experiment: model, training set and settings.
        dev: that nothing is chosen by.
        seeds: at least one, each from 0 to 2⁶⁴ − 1.
        grid: choose batch and rate among `BATCHES` and `RATES`, by the first seed; or the recipe of the configuration.
        from_scratch: train random weights as well, with the best of `RATES_FROM_SCRATCH`.
        transfer: weights of another fine-tuning, to begin with in a further arm.

    Raises:
        InvalidInputError: there is no seed, or one that is out of bounds.
        Interrupted: a signal ended one of the runs.
        MiniBertError: as `Finetuning.trial` and `evaluate_labelled`.
    """
    if not seeds:
        raise InvalidInputError("seeds", got="none", expected="at least one")
    if not 0 <= min(seeds) <= max(seeds) < _SEED_BOUND:
        raise InvalidInputError("seeds", got=f"{min(seeds)} to {max(seeds)}", expected="seeds of 64 bits, from 0")
    recipe, tried = experiment.recipe, []
    if grid:
        best, tried = experiment.best_of("grid", [Recipe(b, lr) for b in BATCHES for lr in RATES], seeds[0])
        recipe = best.recipe
    arms = [_arm("model", experiment, dev, [experiment.trial(f"seed-{seed}", seed, recipe) for seed in seeds])]
    if transfer is not None:
        trials = [experiment.trial(f"after-seed-{seed}", seed, recipe, transfer=transfer) for seed in seeds]
        arms.append({**_arm("after another task", experiment, dev, trials), "start": transfer})
    if from_scratch:
        rates = [Recipe(recipe.batch_size, lr) for lr in RATES_FROM_SCRATCH]
        best, _ = experiment.best_of("scratch", rates, seeds[0], from_scratch=True, replay=False)
        others = [
            experiment.trial(f"scratch-seed-{seed}", seed, best.recipe, from_scratch=True, replay=False)
            for seed in seeds[1:]
        ]
        trials = [best, *others]  # the best of the rates was trained with the first seed
        arms.append(_arm("from scratch", experiment, dev, trials))
    for arm in arms[1:]:
        ours = [trial["score"] for trial in arms[0]["trials"]]
        difference = paired_mean(ours, [trial["score"] for trial in arm["trials"]])
        arm["model_minus_this"] = {"mean": difference.mean, "interval": difference.interval.ends()}
    try:
        words = bag_of_words(experiment.train, experiment.selection, dev)
    except (MissingExtraError, DataError) as error:
        words = {"missing": str(error)}
    learned = {(one.text, one.pair) for part in (experiment.train, experiment.selection) for one in part.examples}
    model = from_pretrained(Path(arms[0]["trials"][0]["run"]) / CHOSEN)
    outputs = model_outputs(model, dev)
    return {
        "kind": "finetuning",
        "task": dev.name,
        "metric": dev.metric,
        "classes": list(dev.classes),
        "start": experiment.start,
        "examples": {
            "train": len(experiment.train.examples),
            "selection": len(experiment.selection.examples),
            "dev": len(dev.examples),
            "dev_in_training": sum((one.text, one.pair) in learned for one in dev.examples),
        },
        "recipe": recipe._asdict(),
        "training_seconds": experiment.training_seconds,
        "grid": [{**trial.recipe._asdict(), "epoch": trial.chosen, "selection": trial.score} for trial in tried],
        "arms": arms,
        "bag_of_words": words,
        "first_seed": scores(outputs, dev),
        "errors": error_patterns(outputs, dev, tokenizer_of(model)),
    }


def _arm(name: str, experiment: Finetuning, dev: LabelledSet, trials: Sequence[Trial]) -> dict[str, Any]:
    """The dev scores of one way, over its seeds."""
    measured = [
        {
            "seed": trial.seed,
            "run": str(trial.run),
            "epoch": trial.chosen,
            "selection": trial.score,
            "seconds": trial.seconds,
            "epochs": trial.epochs,
            **{
                key: value for key, value in evaluate_labelled(trial.model, dev).items() if key in ("score", "interval")
            },
        }
        for trial in trials
    ]
    mean = paired_mean([one["score"] for one in measured], [0.0] * len(measured))
    return {
        "name": name,
        "recipe": trials[0].recipe._asdict(),
        "trials": measured,
        "mean": mean.mean,
        "interval": mean.interval.ends(),
    }
