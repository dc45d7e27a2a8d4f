"""Collocations: counted and scored as loops do; half of the text stands in one; kept in the cache."""

from __future__ import annotations

import json
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mini_bert.config.schema import Config
from mini_bert.data import collocation_counts, masking_pmi
from mini_bert.data.collocation_counts import Text, levels_of, mutual_information
from mini_bert.data.masking_pmi import Collocations, find_collocations
from mini_bert.data.tokens import TokenSet, open_tokens
from mini_bert.errors import ChecksumError, DataError
from mini_bert.text.wordpiece import WordPiece


def told(what: str, done: int, total: int) -> None:
    """Nobody listens."""


def token_set(path: Path, letters: WordPiece) -> TokenSet:
    config = Config.model_validate({"data": {"corpus": [str(path)], "held_out_fraction": 0.02}})
    return open_tokens(config.data, config.tokenizer, config.model.vocab_size, tokenizer=letters).train


@pytest.fixture
def train(tmp_path: Path, letters: WordPiece) -> TokenSet:
    """Random words, among which "new york city" and "the kick off" stand together, and "new" seldom otherwise."""
    draw = np.random.default_rng(0)
    vocabulary = ["of", "a", "b", "the", "city", "off", "c", "d", "e", "f", "ant", "bee", "cat", "é€"]
    lines = []
    for _ in range(100):
        words = draw.choice(vocabulary, 120).tolist()
        for place in draw.integers(0, 100, 4):
            words[place : place + 3] = ["new", "york", "city"]
        for place in draw.integers(0, 100, 2):
            words[place : place + 3] = ["the", "kick", "off"]
        lines.append(json.dumps({"text": " ".join(words)}))
    path = tmp_path / "text.jsonl"
    path.write_text("\n".join(lines))
    return token_set(path, letters)


def words_of(train: TokenSet, letters: WordPiece) -> list[list[tuple[int, ...]]]:
    """Runs of words between special tokens and borders of documents."""
    runs = []
    for document in train.documents():
        runs.append([])
        for id in document.tolist():
            if id in letters.special_ids:
                runs.append([])
            elif runs[-1] and letters.continuation[id]:
                runs[-1][-1] += (id,)
            else:
                runs[-1].append((id,))
    return runs


def counted_by_loops(train: TokenSet, letters: WordPiece, longest: int) -> tuple[int, list[Counter]]:
    runs = words_of(train, letters)
    counts = [
        Counter(tuple(run[i : i + n]) for run in runs for i in range(len(run) - n + 1)) for n in range(1, longest + 1)
    ]
    return sum(map(len, runs)), counts


def pmi_by_loops(run: tuple, counts: list[Counter], words: int) -> float:
    """(MA.5), over all ways to cut a run."""

    def p(part: tuple) -> float:
        return math.log(counts[len(part) - 1][part] / words)

    n, lowest = len(run), math.inf
    for cuts in range(1, 2 ** (n - 1)):
        borders = [0, *(i + 1 for i in range(n - 1) if cuts >> i & 1), n]
        lowest = min(lowest, p(run) - sum(p(run[a:b]) for a, b in pairwise(borders)))
    return lowest


def test_counts_and_scores_are_those_of_the_loops(train: TokenSet, letters: WordPiece) -> None:
    longest = 4
    words, counts = counted_by_loops(train, letters, longest)
    text = Text.of(train, letters)
    assert len(text.hashes) == words
    levels = levels_of(text, longest)
    scores = mutual_information(levels, words)
    for n, (level, score) in enumerate(zip(levels, scores, strict=True), start=1):
        frequent = {run: count for run, count in counts[n - 1].items() if count > 10}
        found = {}
        for number, (first, count) in enumerate(zip(level.first.tolist(), level.counts.tolist(), strict=True)):
            ids = text.ids[text.starts[first] : text.ends[first + n - 1]].tolist()
            run: list[tuple[int, ...]] = []
            for id in ids:
                if run and letters.continuation[id]:
                    run[-1] += (id,)
                else:
                    run.append((id,))
            found[tuple(run)] = count
            if n > 1:
                assert score[number] == pytest.approx(pmi_by_loops(tuple(run), counts, words), rel=1e-12)
        assert found == frequent
        assert len(level.positions) == sum(frequent.values())


def test_what_stands_together_is_found_and_half_of_the_words_stand_in_one(train: TokenSet, letters: WordPiece) -> None:
    found = find_collocations(train, letters, 3, told)
    texts = found.texts(letters)
    by_length = {n: [text for text in texts if len(text.split()) == n] for n in (2, 3)}
    assert set(by_length[2][:3]) == {"new york", "the kick", "kick off"} or "new york" in by_length[2][:4]
    assert by_length[3][0] in ("new york city", "the kick off")
    assert list(found.pmi[: len(by_length[2])]) == sorted(found.pmi[: len(by_length[2])], reverse=True)
    listed = {tuple(letters.encode_ids(text)) for text in texts}
    covered = total = 0
    for run in words_of(train, letters):
        inside = set()
        for n in (2, 3):
            for i in range(len(run) - n + 1):
                if tuple(id for word in run[i : i + n] for id in word) in listed:
                    inside |= set(range(i, i + n))
        covered, total = covered + len(inside), total + len(run)
    everything = (found.pmi > 0).all() and covered < 0.5 * total
    assert everything or 0.5 <= covered / total < 0.6


def test_it_is_counted_once_and_a_damaged_file_is_refused(
    train: TokenSet, letters: WordPiece, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = find_collocations(train, letters, 3, told)
    monkeypatch.setattr(masking_pmi, "collocations", lambda *_: pytest.fail("counted again"))
    again = find_collocations(train, letters, 3, told)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    (file,) = (cache / "collocations").glob("*.npz")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ChecksumError, match="Delete this file"):
        find_collocations(train, letters, 3, told)


def test_parts_of_the_text_give_the_whole(train: TokenSet, letters: WordPiece, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Text.of(train, letters)
    monkeypatch.setattr(collocation_counts, "_READ_AT_ONCE", 700)
    for one, other in zip(whole, Text.of(train, letters), strict=True):
        np.testing.assert_array_equal(one, other)
    monkeypatch.setattr(collocation_counts, "COUNTED_TOKENS", train.n_tokens // 3)
    assert 0.2 < len(Text.of(train, letters).ids) / len(whole.ids) < 0.34


def test_a_text_without_any_is_refused(tmp_path: Path, letters: WordPiece) -> None:
    path = tmp_path / "short.jsonl"
    path.write_text("\n".join(json.dumps({"text": " ".join("abcdefghij"[i:])}) for i in range(8)))
    with pytest.raises(DataError, match="over 10 times"):
        find_collocations(token_set(path, letters), letters, 3, told)


def test_none_are_none() -> None:
    assert Collocations().longest == 0
