"""The whole lab on a small model and a small text: its result, its tables and sentences, its picture, its verb."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from mini_bert.analysis import precision_training
from mini_bert.analysis.numerics import run_numerics
from mini_bert.analysis.rounding import FORMATS
from mini_bert.cli import main
from mini_bert.cli.numerics import _scores
from mini_bert.config.schema import Config, DataConfig, ModelConfig, RunConfig
from mini_bert.data.batches import held_out_batches
from mini_bert.data.tokens import open_tokens
from mini_bert.errors import DataError, InvalidInputError, MissingExtraError
from mini_bert.evaluation.masked_lm import evaluate_masked_lm
from mini_bert.model.bert import MiniBERT
from mini_bert.reports.drawing import require_drawable
from mini_bert.reports.numerics import PARTS, findings, numerics_block, numerics_tables
from mini_bert.reports.numerics_picture import write_numerics
from mini_bert.reports.pages import tables

NOUNS = ["cat", "dog", "cow", "pig", "hen", "fox", "owl", "bee", "ant", "elk"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A folder with texts, a configuration, its tokens, and a model in float64."""
    folder = tmp_path_factory.mktemp("numerics")
    rng = np.random.default_rng(0)
    for number in range(8):
        lines = [
            f"The {NOUNS[a]} sat on the {NOUNS[b]} and ran from the {NOUNS[c]}."
            for a, b, c in rng.integers(0, 10, (60, 3))
        ]
        (folder / f"{number}.txt").write_text("\n".join(lines), encoding="utf-8")
    config = Config(
        model=ModelConfig(
            vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=16,
        ),
        data=DataConfig(corpus=(str(folder / "*.txt"),), held_out_fraction=0.2),
        run=RunConfig(seed=3),
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINI_BERT_CACHE", str(folder / "cache"))
        patch.setattr(precision_training, "_STEPS", {False: 8, True: 4})
        patch.setattr(precision_training, "_SMALL", {"num_hidden_layers": 1})
        tokens = open_tokens(config.data, config.tokenizer, config.model.vocab_size)
        model = MiniBERT(config.model, dtype=np.float64, tokenizer=tokens.tokenizer)
        model.parameters.buffer[...] += 0.2 * rng.normal(size=model.parameters.buffer.size)
        yield folder, config, tokens, model


@pytest.fixture(scope="module")
def result(corpus):
    _, config, tokens, model = corpus
    return run_numerics(
        model, config, tokens, _scores, formats=("float32", "bfloat16", "float16", "float8_e4m3"), quick=True
    )


def test_the_result_is_json_and_has_every_part(result):
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert [part["format"] for part in result["passes"]] == ["float32", "bfloat16", "float16", "float8_e4m3"]
    errors = [part["forward"][-1]["error"] for part in result["passes"]]
    assert errors[0] < errors[2] < errors[1] < errors[3]
    constants = {line["name"]: line["as"] for line in result["constants"]}
    assert constants["score of a masked key"]["float16"] is None
    assert constants["ε of LayerNorm"] == {
        "float32": 1e-12, "bfloat16": pytest.approx(1e-12, rel=0.004), "float16": 0.0, "float8_e4m3": 0.0
    }  # fmt: skip
    facts = {line["name"]: line for line in result["formats"]}
    assert list(facts) == list(FORMATS)
    assert facts["float64"]["largest"] == pytest.approx(np.finfo(float).max, rel=1e-5)


def test_scores_are_those_of_the_evaluation(corpus, result):
    _, config, tokens, model = corpus
    scored = MiniBERT(config.model)
    scored.parameters.buffer[...] = model.parameters.buffer
    expected = evaluate_masked_lm(scored, held_out_batches(tokens.held_out, config, tokens.tokenizer))
    lines = {line["name"]: line for line in result["accuracy"]}
    assert lines["float32"]["loss"] == pytest.approx(expected.loss, rel=1e-5)
    assert lines["float32"]["same_best"] == 1.0
    assert lines["float8_e4m3"]["same_best"] < lines["bfloat16"]["same_best"] < 1.0
    assert lines["bfloat16"]["n_masked"] == expected.n_masked
    assert lines["bfloat16"]["difference"]["mean"] == pytest.approx(
        lines["bfloat16"]["loss"] - lines["float32"]["loss"], abs=2e-5
    )
    assert list(lines) == [
        "float32",
        *(
            name + how
            for name in ("bfloat16", "float16", "float8_e4m3")
            for how in ("", ", weights alone", ", sums too")
        ),
    ]


def test_threads_change_nothing(corpus, result):
    _, config, tokens, model = corpus
    again = run_numerics(model, config, tokens, _scores, formats=("float32", "bfloat16"), quick=True, threads=1)
    first = {curve["name"]: curve for curve in result["training"]["curves"]}
    assert [curve["name"] for curve in again["training"]["curves"]] == list(first)[:4]
    for curve in again["training"]["curves"]:
        assert curve == first[curve["name"]]


def test_every_part_is_drawn_as_tables_and_as_markdown(result):
    assert tables(result) == numerics_tables(result)
    text = "\n".join(table.plain() for table in numerics_tables(result))
    for said in ("65,504", "layer_1.output", "softmax", "2^-8", "bfloat16, sums too", "rounded to nearest", "√Σ"):
        assert said in text
    for name in PARTS:
        assert numerics_block(result, name).startswith("**")
    block = numerics_block(result, "findings")
    assert block.count("\n") == len(findings(result))
    assert "Costliest rounding in bfloat16" in block
    with pytest.raises(DataError, match="Did you mean 'range'"):
        numerics_block(result, "rang")


def test_shares_of_a_table_add_up(result):
    (table,) = PARTS["operations"](result)
    shares = [float(row[-1].removesuffix(" %")) for row in table.rows]
    assert sum(shares) == pytest.approx(100, abs=1)
    assert shares[table.strong[0]] == max(shares)


def test_a_model_that_overflows_is_told_about_and_not_a_crash(corpus):
    _, config, tokens, model = corpus
    broken = MiniBERT(config.model, dtype=np.float64)
    broken.parameters.buffer[...] = model.parameters.buffer
    broken.parameters["W1_0"][...] *= 3e4
    broken.parameters["b1_0"][...] = 0
    result = run_numerics(broken, config, tokens, _scores, formats=("bfloat16", "float16"), quick=True)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    said = "\n".join(findings(result))
    assert "float16 breaks first at layer_0.feed_forward.pre_activation" in said
    assert "Nothing overflows in bfloat16" in said
    lines = {line["name"]: line for line in result["accuracy"]}
    assert lines["float16"]["loss"] is None
    assert lines["bfloat16"]["loss"] > 0
    text = "\n".join(table.plain() for table in numerics_tables(result))
    assert "breaks at layer_0.feed_forward.pre_activation" in text


def test_a_variant_is_refused(corpus):
    _, config, tokens, model = corpus
    variant = model.config.model_copy(update={"position_embedding_type": "rotary"})
    with pytest.raises(InvalidInputError, match="a variant of BERT"):
        run_numerics(MiniBERT(variant, np.float64, tokenizer=tokens.tokenizer), config, tokens, lambda *_: {})


def test_a_model_without_the_head_is_refused(corpus):
    _, config, tokens, _ = corpus
    bare = MiniBERT(config.model.model_copy(update={"heads": ()}), dtype=np.float64)
    with pytest.raises(InvalidInputError, match="mlm"):
        run_numerics(bare, config, tokens, _scores, quick=True)


@pytest.mark.reference
def test_the_picture_is_the_same_file_again_and_holds_its_words(result, tmp_path):
    first, second = (write_numerics(result, tmp_path / name) for name in ("a", "b"))
    assert [path.name for path in first] == ["numerics.json", "numerics.svg", "numerics.png"]
    for path, again in zip(first, second, strict=True):
        assert path.read_bytes() == again.read_bytes()
    assert json.loads(first[0].read_text(encoding="utf-8")) == result
    drawn = first[1].read_text(encoding="utf-8")
    for said in ("bfloat16", "block 1", "softmax", "loss scale", "∝ √L", "zero in"):
        assert said in drawn
    assert first[2].read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_it_says_so_before_the_work(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match="plots"):
        require_drawable()
    assert main(["numerics", "--out", str(tmp_path)]) == 2
    assert "plots" in capsys.readouterr().err


def test_the_verb(corpus, capsys, monkeypatch, tmp_path):
    folder, _, _, model = corpus
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINI_BERT_CACHE", str(folder / "cache"))
    model.save_pretrained(tmp_path / "bert")
    words = ["numerics", "bert", "--corpus", str(folder / "*.txt"), "--format", "bfloat16", "--quick"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "Error against float64" in out
    assert "In short\n- Error of the logits against float64: bfloat16 0.0" in out
    assert main([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["kind"], result["model"]["name"], result["quick"]) == ("numerics", "bert", True)
    assert [curve["name"] for curve in result["training"]["curves"]] == [
        recipe.name for recipe in precision_training.RECIPES[:4]
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing"], "MODEL"),
        (["--format", "bfloat"], "Did you mean 'bfloat16'"),
        (["--format", "float64", "--threads", "0"], "--threads"),
    ],
)
def test_what_is_wrong_is_refused_in_one_line(words, said, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["numerics", *words]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1
