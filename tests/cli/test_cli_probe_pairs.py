"""Minimal pairs on the command line: one's own folder, n-grams of one's own text, and what is refused."""

from __future__ import annotations

import json
import shutil
import string
from pathlib import Path

import pytest

from mini_bert import MiniBERT, load_config
from mini_bert.cli import main
from mini_bert.text.wordpiece import WordPiece

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PAIRS = [("she runs .", "she run ."), ("they run .", "they runs ."), ("it is .", "it are ."), ("ß", "ʒ")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, pairs and a text."""
    made = tmp_path_factory.mktemp("made")
    letters = [*SPECIALS, *string.ascii_lowercase, *(f"##{c}" for c in string.ascii_lowercase), "."]
    config = load_config(["model/debug"]).model.model_copy(update={"vocab_size": len(letters)})
    MiniBERT(config, tokenizer=WordPiece(letters)).save_pretrained(made / "model")
    MiniBERT(config).save_pretrained(made / "bare")
    headless = config.model_copy(update={"heads": ("classifier",)})
    MiniBERT(headless, tokenizer=WordPiece(letters)).save_pretrained(made / "headless")
    (made / "pairs").mkdir()
    lines = [json.dumps({"sentence_good": good, "sentence_bad": bad}) for good, bad in PAIRS]
    (made / "pairs" / "agreement.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for name, line in (("deep", "[" * 200_000), ("twice", '{"sentence_good": "a", "sentence_good": "b"}')):
        (made / name).mkdir()
        (made / name / "odd.jsonl").write_text(line, encoding="utf-8")
    (made / "empty").mkdir()
    texts = [json.dumps({"text": f"She runs {c}. They run {c}. It is {c}."}) for c in string.ascii_lowercase]
    (made / "text.jsonl").write_text("\n".join(texts), encoding="utf-8")
    return made


@pytest.fixture
def probe(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MINI_BERT_CACHE", str(tmp_path / "cache"))

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["probe", "pairs", *words])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_a_folder_of_ones_own_beside_n_grams_of_ones_own(probe) -> None:
    code, out, _ = probe("model", "--pairs-dir", "pairs", "--corpus", "text.jsonl", "--threads", "1", "--json")
    assert code == 0
    result = json.loads(out)
    (found,) = result["sets"]
    assert (found["name"], found["n"], found["identical"]) == ("pairs", 4, 1)
    assert found["total"]["kneser_ney"]["accuracy"] == (3 + 0.5) / 4, "it has seen the good ones"
    assert found["paradigms"][0]["paradigm"] == "agreement"
    assert result["ngrams"]["order"] == 5


def test_pairs_are_asked_also_where_the_training_text_is_gone(probe, folder: Path) -> None:
    shutil.copytree(folder / "model", folder / "trained")
    (folder / "trained" / "config.yaml").write_text("data: {corpus: [gone.txt]}\n")
    code, out, err = probe("trained", "--pairs-dir", "pairs", "--json")
    assert (code, json.loads(out)["ngrams"]) == (0, None)
    assert "Without n-grams: what the model was trained on is not to be had. --corpus: got 'gone.txt'" in err


def test_tables(probe) -> None:
    code, out, err = probe("model", "--pairs-dir", "pairs", "--quick")
    assert code == 0
    assert "pairs: 4 minimal pairs" in out
    assert "--corpus names one" in out
    assert "5-gram" not in out
    assert "pseudo-likelihoods" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model", "--pairs-dir", "empty"], "no pair in any"),
        (["model", "--pairs-dir", "nowhere"], "no such folder"),
        (["bare", "--pairs-dir", "pairs"], "without a tokenizer"),
        (["headless", "--pairs-dir", "pairs"], "mlm"),
        (["model", "--sets", "blimb"], "Did you mean 'blimp'"),
        (["model", "--pairs-dir", "pairs", "--threads", "0"], "threads"),
        (["model", "--pairs-dir", "pairs", "--corpus", "nothing.txt"], "nothing.txt"),
        (["nobody", "--pairs-dir", "pairs"], "nobody"),
        (["model", "--pairs-dir", "pairs", "--sets", "blimp"], "--sets: got it beside --pairs-dir"),
        (["model", "--pairs-dir", "deep"], "brackets nested without end"),
        (["model", "--pairs-dir", "twice"], "the name 'sentence_good' twice"),
        (["model" * 60, "--pairs-dir", "pairs"], "expected a model folder that can be read"),
    ],
)
def test_what_is_refused(probe, words: list[str], said: str) -> None:
    code, out, err = probe(*words)
    assert code == 2
    assert said in err
    assert "Traceback" not in err
    assert not out


@pytest.mark.data
def test_the_published_sets(probe) -> None:
    code, out, _ = probe("model", "--sets", "gulordava", "--quick")
    assert code == 0
    assert "Gulordava et al.: 80 minimal pairs" in out
