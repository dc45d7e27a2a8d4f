"""What is chosen where: epochs and recipes on the selection, dev once; floors, arms and tables; everything resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_toy import TOKENIZER, masked_batches, nearness, saved, sentiment

from mini_bert.config.load import load_config
from mini_bert.errors import InvalidInputError
from mini_bert.evaluation import finetuning
from mini_bert.evaluation.finetuning import Finetuning, Recipe, finetune_task
from mini_bert.evaluation.forgetting import forgetting_and_remedies
from mini_bert.model.bert import MiniBERT
from mini_bert.model.pretrained import from_pretrained
from mini_bert.reports.pages import tables
from mini_bert.training.run_folders import read_contents


@pytest.fixture
def experiment(tmp_path: Path) -> Callable[..., Finetuning]:
    def make(examples=None, epochs: int = 2, **changes: Any) -> Finetuning:
        base: dict[str, Any] = {
            "run.directory": str(tmp_path / "runs"), "run.name": "toy", "run.threads": 1, "train.lr": 5e-3,
            "train.batch_size": 16, "data.held_out_fraction": 0.2, "tasks.masked_lm": 0.0, "tasks.classification": 1.0,
        }  # fmt: skip
        config = load_config(["training/finetuning"], base | {k.replace("__", "."): v for k, v in changes.items()})
        folder = saved(tmp_path / "given")
        return Finetuning(config, from_pretrained(folder), folder, examples or sentiment(150), epochs=epochs)

    return make


def test_the_best_epoch_is_chosen_on_the_selection_and_of_two_the_earlier(
    experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter([0.0, 0.7, 0.9, 0.9, 0.6])
    monkeypatch.setattr(Finetuning, "on_selection", lambda self, model: {"loss": 1.0, "score": next(told)})
    trial = experiment(epochs=4).trial("x", 0)
    assert [epoch["score"] for epoch in trial.epochs] == [0.7, 0.9, 0.9, 0.6]
    assert (trial.chosen, trial.score) == (2, 0.9)
    steps = read_contents(trial.run).of("start")[0]["steps"] // 4
    checkpoint = from_pretrained(trial.run / "checkpoints" / f"checkpoint-{2 * steps}")
    np.testing.assert_array_equal(trial.model.parameters.buffer, checkpoint.parameters.buffer)


def test_dev_is_scored_once_a_run_and_chooses_nothing(experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    dev, scored = sentiment(60, seed=7), []
    ordinary = finetuning.model_outputs

    def watched(model: MiniBERT, examples: Any) -> Any:
        scored.append(examples is dev)
        return ordinary(model, examples)

    monkeypatch.setattr(finetuning, "model_outputs", watched)
    made = experiment()
    result = finetune_task(made, dev, (0, 1))
    assert sum(scored) == 1  # the table of the first seed; the arms go through evaluate_labelled, once a seed
    assert [trial["seed"] for trial in result["arms"][0]["trials"]] == [0, 1]
    learned = {e.text for e in made.train.examples}
    assert not learned & {e.text for e in made.selection.examples}


def test_a_grid_takes_the_recipe_with_the_best_selection(experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetuning, "BATCHES", (8, 16))
    monkeypatch.setattr(finetuning, "RATES", (1e-3, 1e-2))
    tried: list[Recipe] = []
    ordinary = Finetuning.trial

    def trial(self: Finetuning, name: str, seed: int, recipe: Recipe | None = None, *rest: Any, **options: Any) -> Any:
        found = ordinary(self, name, seed, recipe, *rest, **options)
        tried.append(found.recipe)
        return found._replace(score={(8, 1e-2): 0.8}.get(found.recipe, 0.5))

    monkeypatch.setattr(Finetuning, "trial", trial)
    result = finetune_task(experiment(epochs=1), sentiment(40, seed=7), (3,), grid=True)
    assert tried[:4] == [(8, 1e-3), (8, 1e-2), (16, 1e-3), (16, 1e-2)]
    assert tried[4:] == [(8, 1e-2)]
    assert result["recipe"] == {"batch_size": 8, "lr": 1e-2}
    assert len(tables(result)) == 5


def test_arms_and_floors_stand_beside_the_model(experiment, tmp_path: Path) -> None:
    other = saved(tmp_path / "other", seed=4, heads=("classifier",))
    result = finetune_task(experiment(), sentiment(60, seed=7), (0, 1), from_scratch=True, transfer=str(other))
    assert [arm["name"] for arm in result["arms"]] == ["model", "after another task", "from scratch"]
    assert [[trial["seed"] for trial in arm["trials"]] for arm in result["arms"]] == [[0, 1]] * 3
    for arm in result["arms"]:
        values = [trial["score"] for trial in arm["trials"]]
        assert arm["mean"] == pytest.approx(np.mean(values))
    ours, scratch = ([t["score"] for t in result["arms"][i]["trials"]] for i in (0, 2))
    assert result["arms"][2]["model_minus_this"]["mean"] == pytest.approx(np.mean(ours) - np.mean(scratch))
    assert result["arms"][2]["recipe"]["lr"] in finetuning.RATES_FROM_SCRATCH
    assert result["bag_of_words"]["accuracy"] == 1.0
    assert result["first_seed"]["score"] == result["arms"][0]["trials"][0]["score"]
    json.dumps(result)
    shown = tables(result)[0].plain()
    for name in ("always '", "bag of words", "from scratch", "after another task", "model"):
        assert name in shown


def test_too_few_updates_to_learn_by_are_said(experiment) -> None:
    """81 examples in batches of 16 are 6 updates an epoch."""
    made = experiment(epochs=3)
    made.train = made.train.take(range(81))
    result = finetune_task(made, sentiment(40, seed=7), (0,))
    assert "Only 18 updates" in tables(result)[0].plain()
    result["examples"]["train"] = 529  # 34 an epoch
    assert "updates" not in tables(result)[0].plain()


def test_scores_of_one_class_alone_are_said_to_be_none(experiment) -> None:
    alike = sentiment(40, seed=7)
    alike = alike.take(np.flatnonzero(alike.labels == 1).tolist())
    result = finetune_task(experiment(epochs=1), alike, (0,))
    said = f"All texts that are scored are '{alike.classes[1]}'"
    assert said in tables(result)[0].plain()
    assert said not in tables(finetune_task(experiment(epochs=1), sentiment(40, seed=7), (1,)))[0].plain()


def test_time_is_that_of_all_trainings(experiment) -> None:
    result = finetune_task(experiment(epochs=1), sentiment(40, seed=7), (0, 1))
    assert result["training_seconds"] == pytest.approx(sum(t["seconds"] for t in result["arms"][0]["trials"]))


def test_one_seed_says_nothing_of_seeds(experiment) -> None:
    result = finetune_task(experiment(nearness(150), epochs=1), nearness(50, seed=3), (0,))
    assert result["arms"][0]["interval"] == [None, None]
    assert result["metric"] == "spearman"
    assert "always the mean" in tables(result)[0].plain()
    json.dumps(result)


def test_a_finished_experiment_is_not_trained_again_on_a_resume(experiment) -> None:
    first = finetune_task(experiment(), sentiment(60, seed=7), (0,))
    made = experiment(run__resume="auto")
    again = finetune_task(made, sentiment(60, seed=7), (0,))
    assert again["first_seed"] == first["first_seed"]
    assert again["arms"][0]["trials"][0]["epochs"] == first["arms"][0]["trials"][0]["epochs"]
    assert len(read_contents(Path(first["arms"][0]["trials"][0]["run"])).of("start")) == 2


def test_remedies_are_measured_at_masks_that_nobody_learned(experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    made = experiment(epochs=1)
    asked: list[dict[str, Any]] = []
    ordinary = Finetuning.trial

    def trial(self: Finetuning, name: str, seed: int, recipe: Any = None, *, replay: bool = True) -> Any:
        asked.append({"name": name, "replay": replay, "recipe": recipe})
        return ordinary(self, name, seed, recipe)

    monkeypatch.setattr(Finetuning, "trial", trial)
    probes = {"first weight": lambda model: float(model.parameters["token_embeddings"][5, 0])}
    result = forgetting_and_remedies(made, from_pretrained(made.start), masked_batches(), probes=probes)
    assert [one["name"] for one in asked] == ["plain", "lower-rate", "replay"]
    assert asked[1]["recipe"] == (16, pytest.approx(5e-4))
    rises = [way["masked_lm"]["rise"] for way in result["ways"]]
    assert abs(rises[1]) < abs(rises[0])
    (table,) = tables(result)
    assert [row[0] for row in table.rows] == ["before", "plain", "lower rate", "replay"]
    given = float(from_pretrained(made.start).parameters["token_embeddings"][5, 0])
    assert table.rows[0][-1] == f"{100 * given:.1f} %"
    assert table.rows[1][-1] != table.rows[0][-1]
    json.dumps(result)


def test_what_cannot_be_tried_is_refused(experiment, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="epochs: got 0"):
        experiment(epochs=0)
    with pytest.raises(InvalidInputError, match="seeds: got none"):
        finetune_task(experiment(), sentiment(20), ())
    with pytest.raises(InvalidInputError, match="seeds: got -1 to 0"):
        finetune_task(experiment(), sentiment(20), (0, -1))
    bare = MiniBERT.from_parameters(from_pretrained(tmp_path / "given").parameters)
    with pytest.raises(InvalidInputError, match="without a tokenizer"):
        Finetuning(load_config(["training/finetuning"]), bare, "given", sentiment())
    assert TOKENIZER is not None
