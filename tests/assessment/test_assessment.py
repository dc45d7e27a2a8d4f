"""Is everything measured once, and is what cannot be measured left out with its reason?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from worded_bert import worded_bert

from mini_bert.assessment import parts, suite
from mini_bert.assessment.kept_results import KeptResults
from mini_bert.assessment.parts import PARTS, Part
from mini_bert.assessment.subject import Subject
from mini_bert.assessment.suite import assess, chosen_parts, compare
from mini_bert.config.schema import Config, DataConfig
from mini_bert.data.sources import SOURCES
from mini_bert.errors import DataError, InvalidInputError, MissingExtraError, NonFiniteError, StorageError
from mini_bert.model.bert import MiniBERT


@pytest.fixture
def subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MINI_BERT_CACHE", str(tmp_path / "cache"))

    def make(
        model: MiniBERT | None = None, quick: bool = True, corpus: str = "text.txt", again: bool = False
    ) -> Subject:
        model = model or worded_bert()
        config = Config(model=model.config, data=DataConfig(corpus=(corpus,)))
        return Subject("mine", tmp_path, model, config, config.data, quick, lambda what, done, total: None, again=again)

    return make


class Counted:
    """A measurement that says how often it was made."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, subject: Subject) -> dict[str, Any]:
        self.times += 1
        return {"kind": "counted", "times": self.times}


def test_what_is_known_is_not_measured_again(subject) -> None:
    counted = Counted()
    part = Part("counted", "counting", counted)
    told: list[str] = []
    first = assess(subject(), [part], done=lambda title, seconds: told.append(title))
    second = assess(subject(), [part], done=lambda title, seconds: told.append(title))
    assert counted.times == 1
    assert told == ["counting"]
    assert first["parts"] == second["parts"]
    assert json.loads(json.dumps(first)) == first
    assert assess(subject(again=True), [part])["parts"][0]["result"]["times"] == 2
    assert assess(subject(), [part])["parts"][0]["result"]["times"] == 2


def test_a_floor_that_was_missing_is_measured_once_it_can_be(subject, monkeypatch) -> None:
    counted = Counted()
    part = PARTS["sst2"]._replace(measure=counted)
    found = [None, object(), object()]  # scikit-learn is installed between the first and the second
    monkeypatch.setattr(parts, "find_spec", lambda name: found.pop(0))
    assert [assess(subject(), [part])["parts"][0]["result"]["times"] for _ in range(3)] == [1, 2, 2]


def test_time_and_memory_are_those_of_the_measurement_not_of_the_reading(subject, monkeypatch) -> None:
    """Of a fine-tuning that was stopped and went on, the time is that of all its sittings."""
    peaks = iter((7, 900, 800, 3))
    monkeypatch.setattr(suite, "peak_bytes", lambda: next(peaks))
    counted = Counted()
    both = [Part("counted", "counting", counted), Part("tuned", "tuning", lambda _: {"training_seconds": 100.0})]
    first = assess(subject(), both)
    second = assess(subject(), both)
    assert counted.times == 1
    assert 100 <= first["seconds"] < 101
    assert second["seconds"] == first["seconds"]
    assert [one["peak_memory_bytes"] for one in (first, second)] == [900, 900]


@pytest.mark.parametrize(
    ("other", "measured"),
    [
        ({"quick": False}, 2),
        ({"model": worded_bert(seed=1)}, 2),
        ({"model": worded_bert(hidden_dropout_prob=0.5)}, 2),
        ({"corpus": "other.txt"}, 1),
        ({}, 1),
    ],
)
def test_another_model_or_depth_is_another_measurement(subject, other, measured) -> None:
    counted = Counted()
    part = Part("counted", "counting", counted)
    assess(subject(), [part])
    assess(subject(**other), [part])
    assert counted.times == measured


def test_what_reads_the_text_is_measured_anew_on_another_text(subject, tmp_path: Path) -> None:
    """Another file is another text, and so is the same file with other words in it."""
    (mine, other) = (tmp_path / name for name in ("mine.txt", "other.txt"))
    text = "\n\n".join(f"The man saw the dog {n} times." for n in range(300))
    mine.write_text(text)
    other.write_text(text)
    counted = Counted()
    part = Part("counted", "counting", counted, text=True)
    assess(subject(corpus=str(mine)), [part])
    assess(subject(corpus=str(mine)), [part])
    assert counted.times == 1
    assess(subject(corpus=str(other)), [part])
    assert counted.times == 2
    assess(subject(corpus=str(mine)), [part._replace(version=part.version + 1)])
    assert counted.times == 3
    mine.write_text(text.replace("dog", "cat"))
    assess(subject(corpus=str(mine)), [part])
    assert counted.times == 4
    (missing,) = assess(subject(corpus=str(tmp_path / "gone.txt")), [part])["parts"]
    assert "gone.txt" in missing["left_out"]


@pytest.mark.parametrize(
    "error",
    [
        DataError("data set 'blimp'", got="no network", expected="the file"),
        MissingExtraError("scikit-learn", got="not installed", expected="the extra probes"),
        InvalidInputError("tokenizer", got="'him' as 'h', '##im'", expected="pronouns that are one piece"),
        NonFiniteError("scores", got="NaN", expected="finite numbers"),
    ],
)
def test_what_is_not_to_be_had_is_left_out_and_the_rest_measured(subject, error) -> None:
    def missing(subject: Subject) -> dict[str, Any]:
        raise error

    counted = Counted()
    found = assess(subject(), [Part("missing", "not there", missing), Part("counted", "counting", counted)])
    assert found["parts"][0] == {"name": "missing", "title": "not there", "left_out": str(error)}
    assert found["parts"][1]["result"]["times"] == 1
    again = Part("missing", "there now", Counted())
    assert assess(subject(), [again])["parts"][0]["result"]["times"] == 1


def test_other_errors_are_not_hidden(subject) -> None:
    def broken(subject: Subject) -> dict[str, Any]:
        raise StorageError("rows", got="no space", expected="some")

    with pytest.raises(StorageError, match="rows"):
        assess(subject(), [Part("broken", "broken", broken)])


def test_a_head_that_the_model_does_not_have_is_named(subject) -> None:
    model = worded_bert(heads=("classifier",))
    found = assess(subject(model), [Part("counted", "counting", Counted(), heads=("mlm",))])
    assert found["parts"][0]["left_out"] == "The model has no head mlm."


def test_a_kept_result_that_was_damaged_is_measured_again(subject) -> None:
    counted = Counted()
    part = Part("counted", "counting", counted)
    mine = subject()
    assess(mine, [part])
    (file,) = Path(KeptResults(mine.sha256)._folder).glob("*.json")
    file.write_text(file.read_text()[:-20])
    assess(mine, [part])
    assert counted.times == 2


def test_parts_are_chosen_by_name() -> None:
    assert [part.name for part in chosen_parts(["sst2", "pos"], quick=True)] == ["pos", "sst2"]
    assert chosen_parts([], quick=False) == list(PARTS.values())
    assert "cola" not in {part.name for part in chosen_parts([], quick=True)}
    with pytest.raises(InvalidInputError, match=r"'bimp'.*blimp"):
        chosen_parts(["bimp"], quick=False)


def test_every_data_set_of_a_part_is_registered() -> None:
    assert {name for part in PARTS.values() for name in part.data} <= set(SOURCES)


def test_compared_models_stand_side_by_side(subject) -> None:
    part = Part("counted", "counting", Counted())
    both = compare([assess(subject(), [part]), assess(subject(worded_bert(seed=2)), [part])])
    assert both["kind"] == "comparison"
    assert both["assessments"][0]["model"]["sha256"] != both["assessments"][1]["model"]["sha256"]


def _texts(folder: Path) -> tuple[DataConfig, DataConfig]:
    for name, animal in (("own", "dog"), ("other", "cat")):
        text = "\n\n".join(f"The man saw the {animal} {n} times." for n in range(300))
        (folder / f"{name}.txt").write_text(text)
    own, other = (DataConfig(corpus=(str(folder / f"{name}.txt"),)) for name in ("own", "other"))
    return own, other


def _subject(model: MiniBERT, scored: DataConfig, trained_on: DataConfig | None, **more: bool) -> Subject:
    config = Config(model=model.config, data=scored)
    return Subject("mine", Path(), model, config, trained_on, True, lambda what, done, total: None, **more)


def test_another_text_is_scored_whole_beside_what_the_run_was_trained_on(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MINI_BERT_CACHE", str(tmp_path / "cache"))
    model, (own, other) = worded_bert(), _texts(tmp_path)
    usual = _subject(model, own, own).tokens
    found = _subject(model, other, own)
    assert found.tokens.train.fingerprint == usual.train.fingerprint
    split = _subject(model, other, None).tokens
    assert found.tokens.held_out.n_tokens == split.train.n_tokens + split.held_out.n_tokens
    assert found.facts["corpus"] == list(own.corpus)
    learned = own.model_copy(update={"held_out_fraction": 0.3})  # more than the run had held out
    assert _subject(model, learned, own).tokens.held_out.fingerprint == usual.held_out.fingerprint
    both = own.model_copy(update={"corpus": (*own.corpus, *other.corpus)})
    part = _subject(model, own, both).tokens
    assert part.held_out.fingerprint == usual.held_out.fingerprint
    assert part.train.n_documents > usual.train.n_documents
    assert found.facts["held_out_text"]["known"] == 0
    gone = DataConfig(corpus=(str(tmp_path / "gone.txt"),))
    alone = _subject(model, other, gone)
    assert alone.tokens.train.fingerprint == split.train.fingerprint
    for subject, beside, known in ((found, "training text", 0), (alone, "the rest", None)):
        text = subject.facts["held_out_text"]
        assert (text["beside"], text["known"]) == (beside, known)


def test_one_document_is_enough_to_be_scored_on(tmp_path: Path, monkeypatch) -> None:
    """It is split in two only where n-grams are to be counted on the rest of it."""
    monkeypatch.setenv("MINI_BERT_CACHE", str(tmp_path / "cache"))
    model, (own, _) = worded_bert(), _texts(tmp_path)
    (tmp_path / "short.txt").write_text("The man saw the dog.")
    short = DataConfig(corpus=(str(tmp_path / "short.txt"),))
    tokens = _subject(model, short, own).tokens
    assert (tokens.held_out.n_documents, tokens.held_out.n_sentences) == (1, 1)
    with pytest.raises(DataError, match="at least two"):
        _ = _subject(model, short, None).tokens


def test_what_a_run_has_learned_by_heart_is_no_held_out_text(tmp_path: Path, monkeypatch) -> None:
    """Documents that it was trained on are left out; sentences of theirs in other documents are told."""
    monkeypatch.setenv("MINI_BERT_CACHE", str(tmp_path / "cache"))
    model = worded_bert()
    words = [" ".join("man" if n >> bit & 1 else "dog" for bit in range(7)) for n in range(50)]
    lines = [f"The house saw {text}." for text in words[:40]]
    copied = [f"The house saw {text}." for text in words]
    moved = [" ".join(copied[n : n + 2]) for n in range(0, len(copied), 2)]
    for name, documents in (("own", lines), ("copied", copied), ("moved", moved)):
        folder = tmp_path / name
        folder.mkdir()
        for n, text in enumerate(documents):
            (folder / f"{n:02}.txt").write_text(text)
    own, copied_data, moved_data = (
        DataConfig(corpus=(f"{tmp_path / name}/*.txt",), held_out_fraction=0.1) for name in ("own", "copied", "moved")
    )
    usual = _subject(model, own, own).tokens
    found = _subject(model, copied_data, own)
    assert found.tokens.held_out.n_documents == usual.held_out.n_documents + 10
    text = found.facts["held_out_text"]
    assert (text["documents"], text["of_documents"], text["known"]) == (14, 50, 0)
    known = _subject(model, moved_data, own)
    assert known.tokens.held_out.n_documents == 25
    assert 0.6 < known.facts["held_out_text"]["known"] < 0.8
    (tmp_path / "learned").mkdir()
    for name in usual.train.names()[:3]:
        path = tmp_path / "own" / Path(name.partition("#")[0]).name
        (tmp_path / "learned" / path.name).write_text(path.read_text())
    learned = DataConfig(corpus=(f"{tmp_path}/learned/*.txt",))
    with pytest.raises(DataError, match="every document of which mine was trained on"):
        _ = _subject(model, learned, own).tokens
    beside = _subject(model, copied_data.model_copy(update={"corpus": (*learned.corpus, *copied_data.corpus)}), own)
    assert beside.tokens.held_out.rows(16).counts[0] == 0 < beside.tokens.held_out.rows(16).counts[1]
    text = beside.facts["held_out_text"]
    assert (text["documents"], text["of_documents"]) == (14, 53)


def test_without_any_text_what_reads_it_is_left_out(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MINI_BERT_CACHE", str(tmp_path / "cache"))
    unknown = _subject(worded_bert(), DataConfig(), None, has_text=False)
    (part,) = assess(unknown, [Part("counted", "counting", Counted(), text=True)])["parts"]
    assert part["left_out"].startswith("--corpus: got none, and it is not known what mine was trained on")
    assert unknown.facts["corpus"] is None
    assert not unknown.facts["held_out_text"]
