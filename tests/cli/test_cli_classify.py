"""`mini-bert classify`: the labels are those of the model's own outputs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mini_bert import MiniBERT, ModelConfig, WordPiece
from mini_bert.cli import main

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "sat"]


def saved(path: Path, **heads) -> MiniBERT:
    config = ModelConfig(
        vocab_size=8, hidden_size=8, num_attention_heads=2, num_hidden_layers=1, intermediate_size=8,
        max_position_embeddings=16, initializer_range=0.5, **heads,
    )  # fmt: skip
    model = MiniBERT(config, seed=3, tokenizer=WordPiece(WORDS))
    model.save_pretrained(path)
    return model


def logits(model: MiniBERT, ids: list[int], types: list[int]) -> np.ndarray:
    return model.forward(np.array([ids]), token_type_ids=np.array([types]), head="classifier")[0][0].astype(float)


def test_classes_of_texts_and_of_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = saved(tmp_path / "m", heads=("classifier",), num_labels=3, labels=("bad", "so so", "good"))
    assert main(["classify", str(tmp_path / "m"), "a cat", "a cat\tsat", "--json"]) == 0
    one, pair = map(json.loads, capsys.readouterr().out.splitlines())
    for found, ids, types in ((one, [2, 5, 6, 3], [0] * 4), (pair, [2, 5, 6, 3, 7, 3], [0, 0, 0, 0, 1, 1])):
        probs = np.exp(logits(model, ids, types))
        probs /= probs.sum()
        assert list(found["probabilities"].values()) == pytest.approx(probs.tolist(), abs=1e-6)
        assert found["label"] == ("bad", "so so", "good")[int(probs.argmax())]
    assert one["probabilities"] != pair["probabilities"]
    assert main(["classify", str(tmp_path / "m"), "a cat"]) == 0
    share = f"{max(one['probabilities'].values()):.1%}"
    assert capsys.readouterr().out == f"{one['label']}\t{share}\ta cat\n"


def test_a_model_of_scores_gives_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = saved(tmp_path / "m", heads=("classifier",), num_labels=1)
    assert main(["classify", str(tmp_path / "m"), "a cat\tsat", "--json"]) == 0
    score = logits(model, [2, 5, 6, 3, 7, 3], [0, 0, 0, 0, 1, 1])[0]
    assert json.loads(capsys.readouterr().out)["score"] == pytest.approx(score, abs=1e-6)


def test_a_model_that_was_not_fine_tuned_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path / "m", heads=("mlm",))
    assert main(["classify", str(tmp_path / "m"), "a cat"]) == 2
    assert "no head classifier" in capsys.readouterr().err
    assert main(["fill-mask", str(tmp_path / "m"), "a [MASK]"]) == 0
    saved(tmp_path / "c", heads=("classifier",))
    assert main(["fill-mask", str(tmp_path / "c"), "a [MASK]"]) == 2
    assert "no head mlm" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["\tcat", "cat\t", "a\t ", "a\tcat\tsat"])
def test_half_a_pair_is_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path / "m", heads=("classifier",))
    assert main(["classify", str(tmp_path / "m"), "a cat\tsat", text]) == 2
    shown = capsys.readouterr()
    assert "both sides of one tab" in shown.err
    assert not shown.out


def test_what_is_not_read_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 16 positions two are [CLS] and [SEP]; a pair has another [SEP]."""
    saved(tmp_path / "m", heads=("classifier", "mlm"))
    fits, cut = ["cat " * 14, "cat " * 7 + "\t" + "sat " * 6], ["cat " * 15, "cat " * 7 + "\t" + "sat " * 7]
    assert main(["classify", str(tmp_path / "m"), *fits]) == 0
    assert not capsys.readouterr().err
    assert main(["classify", str(tmp_path / "m"), *fits, *cut]) == 0
    assert (
        capsys.readouterr().err
        == "2 texts are longer than the model's 16 positions; what is behind them is not read.\n"
    )
    assert main(["embed", str(tmp_path / "m"), fits[0], cut[0]]) == 0
    assert capsys.readouterr().err.startswith("1 text is longer")
    for text in ("", " ", "a\0cat"):
        assert main(["classify", str(tmp_path / "m"), text]) == 2
        assert "text: got" in capsys.readouterr().err


def test_probes_by_masks_say_which_model_they_want(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path / "c", heads=("classifier",))
    for verb in ("pairs", "facts", "bias"):
        assert main(["probe", verb, str(tmp_path / "c")]) == 2
        shown = capsys.readouterr().err
        assert "no head mlm" in shown
        assert "use the run that it began from" in shown
    assert main(["lr-find", str(tmp_path / "c")]) == 2
    assert "of whose training nothing is known" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["probe", "pos", "--picture", "taken.svg"], marks=pytest.mark.reference, id="a picture"),
        pytest.param(["embed", "--out", "taken.npy", "a cat"], id="vectors"),
    ],
)
def test_a_place_that_cannot_be_written_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("taken.svg", "taken.npy"):
        (tmp_path / name).mkdir()
    verb = words[: words.index("--picture" if "--picture" in words else "--out")]
    assert main([*verb, "nobody", *words[len(verb) :]]) == 2
    assert "got a folder; expected the name of a file" in capsys.readouterr().err
