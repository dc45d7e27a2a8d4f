"""`mini-bert finetune` from files to table, and everything that can be wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from labelled_toy import nearness, saved, sentiment

from mini_bert import MiniBERT, WordPiece
from mini_bert.cli import main
from mini_bert.data.task_sets.labelled import LabelledSet
from mini_bert.errors import DataError
from mini_bert.model.pretrained import from_pretrained

FAST = ["--model", "given", "--epochs", "1", "--seeds", "1", "--run.threads", "1", "--train.batch-size", "16"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINI_BERT_CACHE", str(tmp_path / "cache"))
    saved(tmp_path / "given")
    write(tmp_path / "train.tsv", sentiment(150))
    write(tmp_path / "dev.tsv", sentiment(50, seed=5))
    return tmp_path


def write(path: Path, examples: LabelledSet) -> None:
    pairs = examples.examples[0].pair is not None
    lines = ["sentence1\tsentence2\tscore" if pairs else "sentence\tlabel"]
    for example in examples.examples:
        label = example.label if examples.regression else examples.classes[int(example.label)]
        lines.append("\t".join([example.text, *([str(example.pair)] if pairs else []), str(label)]))
    path.write_text("\n".join(lines) + "\n")


def model_like(given: Path, path: Path, first: str | None = None, **settings: int) -> None:
    """Another shape, or another first word."""
    model = from_pretrained(given)
    words = list(model.tokenizer.vocabulary)
    words[5] = first or words[5]
    MiniBERT(model.config.model_copy(update=settings), tokenizer=WordPiece(words)).save_pretrained(path)


def finetuned(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    assert main(["finetune", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_from_files_to_a_model_folder(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = finetuned(
        capsys, "mine", *FAST, "--train-file", "train.tsv", "--dev-file", "dev.tsv", "--run", "a", "--seed", "3"
    )
    assert (result["task"], result["metric"], result["classes"]) == ("mine", "accuracy", ["negative", "positive"])
    assert (result["examples"]["dev"], result["examples"]["dev_in_training"]) == (50, 3)
    assert result["arms"][0]["trials"][0]["seed"] == 3
    model = from_pretrained(place / "runs" / "a-seed-3" / "model")
    assert model.config.labels == ("negative", "positive")
    assert (place / "runs" / "a-seed-3" / "config.yaml").read_text().count("mine") == 1


def test_a_table_and_the_way_to_the_model(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["finetune", "mine", *FAST, "--train-file", "train.tsv", "--max-samples", "100", "--run", "a"]) == 0
    shown = capsys.readouterr()
    assert "Fine-tuning: mine, accuracy" in shown.out
    assert "runs/a-seed-0/model" in shown.out
    assert "drawn from the training file" in shown.err


def test_texts_that_were_learned_and_are_scored_are_counted(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (place / "train.tsv").read_text().splitlines()
    (place / "known.tsv").write_text("\n".join([*lines[:8], "a text unlike those\tpositive"]) + "\n")
    assert main(["finetune", "mine", *FAST, "--train-file", "train.tsv", "--dev-file", "known.tsv", "--run", "k"]) == 0
    assert "7 of the 8 texts that are scored stand in the training set too." in capsys.readouterr().out


def test_scores_of_pairs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(place / "near.tsv", nearness(120))
    result = finetuned(capsys, "near", *FAST, "--train-file", "near.tsv", "--run", "b")
    assert (result["metric"], result["classes"]) == ("spearman", [])
    assert from_pretrained(place / "runs" / "b-seed-0" / "model").config.num_labels == 1


def test_a_name_that_is_taken_and_a_resume(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["mine", *FAST, "--train-file", "train.tsv", "--dev-file", "dev.tsv", "--run", "a"]
    first = finetuned(capsys, *words)
    assert main(["finetune", *words]) == 2
    assert "--resume auto" in capsys.readouterr().err
    assert finetuned(capsys, *words, "--resume", "auto")["first_seed"] == first["first_seed"]


def test_what_is_forgotten_of_a_text(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def probes(threads: int | None, left_out: Callable[[str, str], None]) -> dict[str, Any]:
        left_out("BLiMP", "No network.")
        return {"first weight": lambda model: float(model.parameters["token_embeddings"][5, 0])}

    monkeypatch.setattr("mini_bert.assessment.forgetting_probes.forgetting_probes", probes)
    (place / "texts").mkdir()
    for number, example in enumerate(sentiment(80, seed=8).examples):
        (place / "texts" / f"{number:02}.txt").write_text(" ".join([example.text] * 6) + ".\n")
    result = finetuned(
        capsys, "mine", *FAST, "--train-file", "train.tsv", "--run", "c", "--forgetting", "--corpus", "texts/*.txt",
    )  # fmt: skip
    assert [way["way"] for way in result["ways"]] == ["plain", "lower-rate", "replay"]
    assert result["ways"][2]["masked_lm"]["after"]["loss"] < result["ways"][0]["masked_lm"]["after"]["loss"]
    probed = [way["probes"]["first weight"] for way in result["ways"]]
    given = float(from_pretrained(place / "given").parameters["token_embeddings"][5, 0])
    assert {probe["before"] for probe in probed} == {given}
    assert len({probe["after"] for probe in probed} | {given}) == 4


def test_what_is_held_out_of_a_text_is_what_pre_training_held_out(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def no_tokens(data: Any, *others: Any, **options: Any) -> None:
        asked.append(data)
        raise DataError("corpus", got="enough", expected="no more")

    monkeypatch.setattr("mini_bert.data.tokens.open_tokens", no_tokens)
    words = ["finetune", "mine", *FAST, "--train-file", "train.tsv", "--forgetting", "--corpus", "x.txt"]
    assert main(words) == 2
    (place / "given" / "config.yaml").write_text("data: {held_out_fraction: 0.25, held_out_rows: 77}")
    assert main(words) == 2
    assert [(data.held_out_fraction, data.held_out_rows) for data in asked] == [(0.02, 1024), (0.25, 77)]
    assert asked[0].corpus == ("x.txt",)


WRONG: list[tuple[list[str], str]] = [
    (["sst3"], "sst2"),
    (["mine", "--train-file", "none.tsv"], "No such file"),
    (["mine", "--train-file", "train.tsv", "--dev-file", "bad.tsv"], "the label 'maybe'"),
    (["mine", "--train-file", "train.tsv", "--forgetting"], "--corpus"),
    (["mine", "--train-file", "train.tsv", "--epochs", "0"], "--epochs"),
    (
        ["mine", "--train-file", "one.tsv", "--dev-file", "dev.tsv"],
        "in the 20 examples that are left when 1 are set aside",
    ),
    (["mine", "--train-file", "half.jsonl"], "half.jsonl:2: got half a character, '\\ud800'"),
    (["mine", "--train-file", "train.tsv", "--model.hidden-size", "64"], "model.hidden_size: got 64; expected"),
    (["mine", "--train-file", "train.tsv", "--config", "model/small"], "model.hidden_size: got"),
    (["mine", "--train-file", "train.tsv", "--forgetting", "--grid"], "--grid: got it beside --forgetting"),
    (["mine", "--train-file", "train.tsv", "--seed", str(2**64 - 1), "--seeds", "2"], "seeds: got"),
    (["mine", "--train-file", "train.tsv", "--seeds", "0"], "--seeds"),
    (["mine", "--train-file", "train.tsv", "--max-samples", "0"], "--max-samples"),
    (["mine", "--train-file", "train.tsv", "--model", "nobody"], "nobody"),
    (["mine", "--train-file", "train.tsv", "--resume", "here"], "--resume"),
    (["mine", "--train-file", "train.tsv", "--train.steps", "4"], "--epochs says how long"),
    (["mine", "--train-file", "train.tsv", "--seeds", "1000000000000"], "at most 1,000"),
    (["mine", "--train-file", "train.tsv", "--corpus", "x.txt"], "--corpus: got a text, and no weight for it"),
    (
        ["mine", "--train-file", "pairs.tsv", "--dev-file", "dev.tsv"],
        "--dev-file: got pairs to learn from and single texts",
    ),
    (["rte", "--train-file", "train.tsv"], "entailment"),
    (["mine", "--train-file", "train.tsv", "--transfer", "wide"], "--transfer: got wide, with hidden_size 32"),
    (["mine", "--train-file", "train.tsv", "--transfer", "words"], "--transfer: got words, with another vocabulary"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=[message for _, message in WRONG])
def test_bad_input_is_named_in_one_line(
    words: list[str], message: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "bad.tsv").write_text("sentence\tlabel\nthe film\tmaybe\n")
    (place / "one.tsv").write_text("sentence\tlabel\n" + "a fine film\tpositive\na bad film\tnegative\n" * 20)
    (place / "pairs.tsv").write_text("sentence1\tsentence2\tlabel\n" + "a\tb\tpositive\nc\td\tnegative\n" * 20)
    model_like(place / "given", place / "wide", hidden_size=32)
    model_like(place / "given", place / "words", first="another")
    (place / "half.jsonl").write_text('{"text": "a", "label": 1}\n{"text": "a \\ud800 dog", "label": 0}\n')
    model = [] if "--model" in words else ["--model", "given"]
    assert main(["finetune", *words, *model]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert not shown.out
