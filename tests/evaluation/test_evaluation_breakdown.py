"""Do the parts add up to the whole, and is every masked token in the part that it belongs to?"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mini_bert.batch import Batch
from mini_bert.config.schema import ModelConfig
from mini_bert.data.task_sets.treebanks import TaggedSentence
from mini_bert.errors import InvalidInputError
from mini_bert.evaluation.masked_lm import evaluate_masked_lm
from mini_bert.evaluation.masked_lm_breakdown import (
    PIECES,
    SHOWN,
    masked_lm_breakdown,
    masked_sentences,
    masked_tokens,
    token_scores,
)
from mini_bert.model.bert import MiniBERT
from mini_bert.reports.masked_lm_breakdown import reliability_picture
from mini_bert.reports.pages import tables
from mini_bert.text.wordpiece import WordPiece

TOKENIZER = WordPiece(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh", "##a", "##b", "##c"])
RNG = np.random.default_rng(0)


def model(seed: int = 1) -> MiniBERT:
    shape = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12, "max_position_embeddings": 12}
    bert = MiniBERT(ModelConfig(vocab_size=16, hidden_size=8, **shape), dtype=np.float64, tokenizer=TOKENIZER)
    bert.parameters.buffer[...] += 0.4 * np.random.default_rng(seed).normal(size=bert.parameters.buffer.size)
    return bert


def sentences(n: int = 60) -> list[list[str]]:
    letters = [*"abcdefgh"]
    words = [letters[i] + "".join("abc"[j] for j in RNG.integers(0, 3, k)) for i in range(8) for k in range(3)]
    return [[words[i] for i in RNG.integers(0, len(words), RNG.integers(1, 12))] for _ in range(n)]


TEXT = sentences()
BATCHES, WORDS = masked_sentences(TOKENIZER, TEXT, length=12, seed=4)
COUNTS = np.array([0, 0, 0, 0, 0, 90, 80, 70, 60, 50, 40, 30, 20, 10, 5, 0])


def by_loop() -> list[tuple[int, int, int, str, str]]:
    """Row, column, id, kind of piece and what is shown of each masked token, one at a time."""
    found = []
    first = 0
    for batch in BATCHES:
        ids = batch.input_ids.copy()
        T = ids.shape[1]
        for position, target in zip(batch.masked_positions, batch.target_ids, strict=True):
            ids[position // T, position % T] = target
        for position in batch.masked_positions:
            r, c = divmod(int(position), T)
            token = TOKENIZER.token(int(ids[r, c]))
            behind = TOKENIZER.token(int(ids[r, c + 1])) if c + 1 < T else "[SEP]"
            kind = PIECES[2] if token.startswith("##") else PIECES[1] if behind.startswith("##") else PIECES[0]
            stands = TOKENIZER.token(int(batch.input_ids[r, c]))
            shown = SHOWN[0] if stands == "[MASK]" else SHOWN[2] if stands == token else SHOWN[1]
            found.append((first + r, c, int(ids[r, c]), kind, shown))
        first += len(ids)
    return found


def test_every_masked_token_is_known_for_what_it_is() -> None:
    tokens = masked_tokens(BATCHES, TOKENIZER)
    found = list(
        zip(
            tokens.row.tolist(),
            tokens.column.tolist(),
            tokens.target.tolist(),
            [PIECES[i] for i in tokens.piece],
            [SHOWN[i] for i in tokens.shown],
            strict=True,
        )
    )
    assert found == by_loop()
    assert set(tokens.piece) == set(tokens.shown) == {0, 1, 2}


def test_a_masked_continuation_does_not_hide_that_its_word_goes_on() -> None:
    """The word `ab` with its second piece masked begins with a first piece, whatever stands there now."""
    a, b, mask = TOKENIZER.id("a"), TOKENIZER.id("##b"), TOKENIZER.mask_id
    batch = Batch(
        np.array([[2, mask, mask, 3]], np.int32),
        masked_positions=np.array([1, 2]),
        target_ids=np.array([a, b]),
    )
    assert masked_tokens([batch], TOKENIZER).piece.tolist() == [1, 2]


def test_parts_add_up_to_the_whole() -> None:
    bert = model()
    whole = evaluate_masked_lm(bert, BATCHES)
    result = masked_lm_breakdown(bert, BATCHES, TOKENIZER, counts=COUNTS, baselines={"other": model(2)})
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert [group["by"] for group in result["groups"]] == ["frequency", "piece", "shown", "position"]
    for group in result["groups"]:
        assert sum(line["n"] for line in group["lines"]) == result["n_masked"] == whole.n_masked
        assert sum(line["share"] for line in group["lines"]) == pytest.approx(1)
        for figure in ("loss", "top1", "top5"):
            mean = sum(line["share"] * line["scores"]["model"][figure] for line in group["lines"])
            assert mean == pytest.approx(getattr(whole, figure), rel=1e-12)
        mean = sum(line["share"] * line["scores"]["other"]["loss"] for line in group["lines"])
        assert mean == pytest.approx(evaluate_masked_lm(model(2), BATCHES).loss, rel=1e-12)


def test_bands_of_frequency_count_ranks_in_the_training_text() -> None:
    tokens = masked_tokens(BATCHES, TOKENIZER)
    lines = {line["label"]: line["n"] for line in _group("frequency")["lines"]}
    assert lines == {
        "1 to 10": int((COUNTS[tokens.target] > 0).sum()),
        "never seen in training": int((tokens.target == 15).sum()),
    }
    assert lines["never seen in training"] > 0


def test_bands_of_position_hold_their_columns() -> None:
    columns = masked_tokens(BATCHES, TOKENIZER).column
    for line in _group("position")["lines"]:
        low, _, high = line["label"].partition(" to ")
        assert line["n"] == int(((columns + 1 >= int(low)) & (columns + 1 <= int(high))).sum())


def _group(by: str) -> dict:
    result = masked_lm_breakdown(model(), BATCHES, TOKENIZER, counts=COUNTS)
    return next(group for group in result["groups"] if group["by"] == by)


def test_parts_of_speech_are_those_of_the_words_that_were_masked() -> None:
    """The tag is the word's first letter, which each piece's word tells."""
    tagged = [TaggedSentence(tuple(words), tuple(word[0] for word in words)) for words in TEXT]
    result = masked_lm_breakdown(model(), BATCHES, TOKENIZER, tagged=tagged, length=12, seed=4)
    group = result["groups"][-1]
    assert group["by"] == "part of speech"
    restored: dict[str, int] = {}
    for row, column, target, kind, _ in by_loop():
        ids = list(WORDS.rows[row].ids)
        assert ids[column] == target
        if kind == PIECES[2]:
            while TOKENIZER.token(ids[column]).startswith("##"):
                column -= 1
        letter = TOKENIZER.token(ids[column])
        restored[letter] = restored.get(letter, 0) + 1
    assert {line["label"]: line["n"] for line in group["lines"]} == restored
    assert sum(line["share"] * line["scores"]["model"]["loss"] for line in group["lines"]) == pytest.approx(
        evaluate_masked_lm(model(), BATCHES).loss
    )


def test_confidence_is_the_probability_of_the_best_piece() -> None:
    bert = model()
    found = token_scores(bert, BATCHES)
    start = 0
    for batch in BATCHES:
        logits = bert.mlm_logits(batch)
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        here = slice(start, start + len(p))
        np.testing.assert_allclose(found.confidence[here], p.max(axis=1), rtol=1e-12)
        np.testing.assert_allclose(found.loss[here], -np.log(p[np.arange(len(p)), batch.target_ids]), rtol=1e-10)
        assert np.array_equal(found.top1[here], p.argmax(axis=1) == batch.target_ids)
        start += len(p)


def test_calibration_looks_at_what_is_hidden_alone() -> None:
    result = masked_lm_breakdown(model(), BATCHES, TOKENIZER)
    found = result["calibration"]["model"]
    scores, hidden = token_scores(model(), BATCHES), masked_tokens(BATCHES, TOKENIZER).shown == 0
    assert found["n"] == int(hidden.sum()) < result["n_masked"]
    assert found["overconfidence"] == pytest.approx(
        scores.confidence[hidden].mean() - scores.top1[hidden].mean(), rel=1e-9
    )
    assert sum(bin["n"] for bin in found["bins"]) == found["n"]


def test_it_is_shown_in_tables() -> None:
    tagged = [TaggedSentence(("a", "bc"), ("X", "Y"))]
    result = masked_lm_breakdown(
        model(), BATCHES, TOKENIZER, counts=COUNTS, baselines={"unigram": model(2)}, tagged=tagged
    )
    shown = tables(result)
    assert len(shown) == 6
    assert "unigram: loss" in shown[0].plain()
    assert "ECE" in shown[-1].markdown()


@pytest.mark.reference
def test_it_is_drawn(tmp_path: Path) -> None:
    result = masked_lm_breakdown(model(), BATCHES, TOKENIZER, counts=COUNTS)
    assert reliability_picture(result, tmp_path / "reliability.svg").stat().st_size > 1000


def test_what_cannot_be_taken_apart_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="counts"):
        masked_lm_breakdown(model(), BATCHES, TOKENIZER, counts=COUNTS[:5])
    with pytest.raises(InvalidInputError, match="no masked_positions"):
        masked_lm_breakdown(model(), [Batch(np.array([[2, 5, 3]]))], TOKENIZER)
    nothing = Batch(np.array([[2, 5, 3]]), masked_positions=np.zeros(0, np.int64), target_ids=np.zeros(0, np.int64))
    with pytest.raises(InvalidInputError, match="no masked position"):
        masked_lm_breakdown(model(), [nothing], TOKENIZER)
