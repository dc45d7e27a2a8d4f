"""A task that is learned for an assessment: it goes on, is not taken for another, and is learned again when asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from labelled_toy import saved, sentiment

from mini_bert.assessment import fine_tuned as module
from mini_bert.assessment.fine_tuned import fine_tuned
from mini_bert.assessment.subject import Subject
from mini_bert.config.schema import Config, DataConfig
from mini_bert.data.sources import cache_home
from mini_bert.model.pretrained import from_pretrained


@pytest.fixture
def learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The run of a quick fine-tuning from the folder, as it is named in the cache, and the scores of its epochs."""
    monkeypatch.setenv("MINI_BERT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        module, "load_task", lambda name, part="train": sentiment(60 if part == "train" else 30, seed=len(part))
    )

    def run(folder: str = "given", again: bool = False) -> tuple[str, list[float]]:
        if not (tmp_path / folder).exists():
            saved(tmp_path / folder)
        model = from_pretrained(tmp_path / folder)
        config, told = Config(model=model.config), lambda what, done, total: None
        subject = Subject("mine", tmp_path / folder, model, config, DataConfig(), True, told, threads=1, again=again)
        (trial,) = fine_tuned(subject, "sst2")["arms"][0]["trials"]
        return Path(trial["run"]).name, [epoch["loss"] for epoch in trial["epochs"]]

    return run


def runs() -> set[str]:
    return {path.name for path in (cache_home() / "assessments").glob("*/runs/*")}


def test_what_is_learned_is_learned_once_unless_it_is_asked_for_again(learned) -> None:
    name, losses = learned()
    assert learned() == (name, losses)
    assert runs() == {name}
    anew, same_losses = learned(again=True)
    assert anew != name
    assert same_losses == losses
    assert runs() == {name, anew}


def test_the_same_weights_under_another_path_are_no_obstacle(learned) -> None:
    """A run remembers where its first weights lay, and is not gone on with from elsewhere."""
    name, losses = learned()
    elsewhere, same_losses = learned("elsewhere")
    assert elsewhere != name
    assert same_losses == losses


def test_other_examples_are_another_run(learned, monkeypatch: pytest.MonkeyPatch) -> None:
    name, _ = learned()
    monkeypatch.setattr(module, "load_task", lambda name, part="train": sentiment(64, seed=7))
    assert learned()[0] != name
