"""`mini-bert convert`: what it says of a folder, what it writes, and what it leaves alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mini_bert import MiniBERT, ModelConfig, WordPiece
from mini_bert.cli import main
from mini_bert.interop import safetensors_guard

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "##s"]
SHAPE = {
    "vocab_size": 12, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8,
    "max_position_embeddings": 8,
}  # fmt: skip
FILES = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """As of 2019: gamma and beta, no architectures, a pooler, a vocabulary alone."""
    folder = tmp_path / "source"
    model = MiniBERT(ModelConfig(**SHAPE, heads=("mlm", "nsp")), seed=3)
    model.save_pretrained(folder)
    arrays = safetensors_guard.load(folder / "model.safetensors")[0]
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): array for name, array in arrays.items()}
    safetensors_guard.save(folder / "model.safetensors", old)
    fields = json.loads((folder / "config.json").read_text())
    del fields["architectures"]
    (folder / "config.json").write_text(json.dumps(fields))
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    return folder


def parameters(folder: Path) -> bytes:
    return MiniBERT.from_pretrained(folder).parameters.buffer.tobytes()


def test_an_old_folder_becomes_a_clean_one(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(source), str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "BertForPreTraining, by its tensors: L=1 H=8 A=2 I=8 T=8 V=12, gelu" in out
    assert "model.safetensors: 30 tensors, " in out
    assert ", float32" in out
    assert ", ".join(FILES) in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    arrays, metadata = safetensors_guard.load(tmp_path / "out" / "model.safetensors")
    assert metadata == {"format": "pt"}
    assert not any("gamma" in name for name in arrays)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["architectures"] == ["BertForPreTraining"]
    assert parameters(tmp_path / "out") == parameters(source)
    assert MiniBERT.from_pretrained(tmp_path / "out").tokenizer == WordPiece(PIECES)

    assert main(["convert", str(tmp_path / "out"), str(tmp_path / "again")]) == 0
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_the_facts_as_json(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(source), str(tmp_path / "out"), "--heads", "mlm", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["read"] | {"folder": ""} == {
        "folder": "", "file": "model.safetensors", "architecture": "BertForPreTraining",
        "architecture_from": "the tensors", "heads": ["mlm", "nsp"], "tensors": 30, "dtype": "float32",
        "numbers": MiniBERT.from_pretrained(source).parameters.buffer.size,
        "left_behind": [
            "cls.seq_relationship.bias", "cls.seq_relationship.weight", "pooler.dense.bias", "pooler.dense.weight",
        ],
    }  # fmt: skip
    model = MiniBERT.from_pretrained(tmp_path / "out")
    assert facts["wrote"] | {"folder": ""} == {
        "folder": "", "files": FILES, "architecture": "BertForMaskedLM", "heads": ["mlm"], "tensors": 26,
        "parameters": model.parameters.buffer.size, "dtype": "float32", "model_type": "bert",
    }  # fmt: skip
    assert facts["shape"]["pooler"] is False


def test_a_variant_stays_one_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shape = {"vocab_size": 20, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 12}
    MiniBERT(ModelConfig(**shape, norm_placement="pre", use_bias=False)).save_pretrained(tmp_path / "in")
    assert main(["convert", str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    assert "a variant that transformers does not know (model_type mini-bert)" in capsys.readouterr().out
    for path in (tmp_path / "in").iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("heads", "pooler"), [((), True), (("nsp",), True), (("nsp", "mlm"), True), (("mlm",), False)])
def test_heads_are_chosen(
    source: Path, tmp_path: Path, heads: tuple[str, ...], pooler: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(source), str(tmp_path / "out"), "--heads", *heads]) == 0
    model = MiniBERT.from_pretrained(tmp_path / "out")
    assert set(model.config.heads) == set(heads)
    assert ("W_pooler" in model.parameters) is pooler
    if pooler:
        whole = MiniBERT.from_pretrained(source)
        np.testing.assert_array_equal(model.parameters["W_pooler"], whole.parameters["W_pooler"])


@pytest.mark.parametrize(("dtype", "size"), [("float16", 2), ("bfloat16", 2), ("float32", 4), ("float64", 8)])
def test_the_dtype_stays_unless_told_otherwise(
    source: Path, tmp_path: Path, dtype: str, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(source), str(tmp_path / "one"), "--dtype", dtype]) == 0
    capsys.readouterr()
    assert main(["convert", str(tmp_path / "one"), str(tmp_path / "two"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    # A model of float64 whose numbers came from float32 fits into float32, and nothing is lost by saying so.
    narrow = "float32" if dtype == "float64" else dtype
    assert facts["read"]["dtype"] == facts["wrote"]["dtype"] == narrow
    assert (tmp_path / "one" / "model.safetensors").stat().st_size > size * facts["wrote"]["parameters"]
    assert parameters(tmp_path / "two") == parameters(tmp_path / "one")


def test_float64_that_is_more_than_float32_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = MiniBERT(ModelConfig(**SHAPE), dtype=np.float64)
    model.parameters.buffer[...] += 1e-12
    model.save_pretrained(tmp_path / "in")
    assert main(["convert", str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    before, after = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("in", "out"))
    assert before == after


def test_a_run_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    MiniBERT(ModelConfig(**SHAPE)).save_pretrained("runs/mine")
    assert main(["convert", "mine", "out"]) == 0
    assert "no tokenizer" in capsys.readouterr().err
    assert sorted(path.name for path in Path("out").iterdir()) == FILES[:2]


def test_nothing_is_overwritten_unless_told(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    assert main(["convert", str(source), str(tmp_path / "full")]) == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]
    assert main(["convert", str(source), str(tmp_path / "full" / "notes.txt")]) == 2
    assert main(["convert", str(source), str(tmp_path / "empty")]) == 0
    assert main(["convert", str(source), str(tmp_path / "full"), "--overwrite"]) == 0
    assert (tmp_path / "full" / "notes.txt").read_text() == "mine"
    before = parameters(source)
    assert main(["convert", str(source), str(source), "--overwrite"]) == 0  # in place
    assert parameters(source) == before


@pytest.mark.parametrize(
    ("words", "reasons"),
    [
        (["--heads", "classifier"], ["no tensor classifier.weight"]),
        (["--heads", "sentiment"], ["sentiment"]),
        (["--dtype", "int8"], ["int8"]),
    ],
)
def test_what_the_folder_lacks_is_not_invented(
    source: Path, tmp_path: Path, words: list[str], reasons: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(source), str(tmp_path / "out"), *words]) == 2
    err = capsys.readouterr().err
    assert all(reason in err for reason in reasons)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_another_tokenizer(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source / "tokenizer_config.json").write_text('{"tokenizer_class": "BertJapaneseTokenizer"}')
    assert main(["convert", str(source), str(tmp_path / "out")]) == 2
    assert "--without-tokenizer" in capsys.readouterr().err
    assert main(["convert", str(source), str(tmp_path / "out"), "--without-tokenizer"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES[:2]
