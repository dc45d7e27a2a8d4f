"""From a configuration to token files: once, the same for any number of workers, split by document."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from made_texts import write_book

from mini_bert.config.schema import DataConfig, TokenizerConfig
from mini_bert.data import split, tokens, vocabularies, work
from mini_bert.data.batches import BatchStream
from mini_bert.data.documents import read_documents
from mini_bert.data.split import held_out_documents
from mini_bert.data.tokens import TokenCorpus, open_tokens
from mini_bert.errors import ChecksumError, DataError, StorageError
from mini_bert.text.wordpiece import WordPiece


def opened(*corpus: str, vocab_size: int = 90, **options: object) -> TokenCorpus:
    return open_tokens(DataConfig(corpus=corpus, held_out_fraction=0.1), TokenizerConfig(), vocab_size, **options)


def test_tokens_are_those_of_the_documents(book: Path, letters: WordPiece) -> None:
    corpus = opened(str(book), tokenizer=letters)
    both = dict(zip(corpus.train.names(), corpus.train.documents(), strict=True))
    both |= dict(zip(corpus.held_out.names(), corpus.held_out.documents(), strict=True))
    expected = {
        document.name: [id for sentence in document.sentences for id in letters.encode_ids(sentence)]
        for document in read_documents(str(book))
    }
    assert {name: ids.tolist() for name, ids in both.items()} == expected
    assert corpus.train.n_tokens + corpus.held_out.n_tokens == sum(map(len, expected.values()))
    assert corpus.train.n_documents + corpus.held_out.n_documents == len(expected) == 40
    assert corpus.held_out.n_documents == 4


def test_a_vocabulary_is_learned_from_the_training_documents_alone(tmp_path: Path) -> None:
    """A word that stands in one document alone has a piece exactly if that document is not held out."""
    words = "stone river cloud field number"
    outcomes = set()
    for odd in range(30):
        path = tmp_path / f"{odd}.jsonl"
        documents = [f"{words} {number}" + " qzx" * 200 * (number == odd) for number in range(30)]
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
        corpus = opened(str(path), vocab_size=55)
        assert corpus.tokenizer.vocab_size == 55
        outcomes.add((f"{odd}.jsonl:{odd + 1}" in corpus.held_out.names(), "qzx" in corpus.tokenizer.vocabulary))
    assert outcomes == {(False, True), (True, False)}


def test_a_vocabulary_is_learned_once_and_kept(book: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(str(book))
    monkeypatch.setattr(vocabularies, "learn_vocabulary", None)
    monkeypatch.setattr(tokens, "ShardWriter", None)
    assert opened(str(book)).tokenizer == first.tokenizer
    [kept] = (cache / "vocabularies").iterdir()
    kept.write_text(kept.read_text().replace("##", "#", 1))
    with pytest.raises(ChecksumError, match="Delete this file"):
        opened(str(book))


def store_digest(cache: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted((cache / "tokens").rglob("*.*")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def test_any_number_of_workers_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = write_book(tmp_path / "book.txt", 700, seed=4)
    monkeypatch.setattr(work, "_SERIAL_BYTES", 0)
    monkeypatch.setattr(work, "_BATCH_CHARACTERS", 20_000)
    found = set()
    for workers in (0, 2):
        monkeypatch.setenv("MINI_BERT_CACHE", str(tmp_path / f"cache{workers}"))
        corpus = opened(str(book), workers=workers)
        found.add((store_digest(tmp_path / f"cache{workers}"), corpus.tokenizer.fingerprint))
    assert len(found) == 1


def test_a_preparation_that_is_interrupted_again_and_again_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call is interrupted when it has told of its work a few times; what was told shows what was done again."""
    monkeypatch.setattr(work, "_BATCH_CHARACTERS", 20_000)
    monkeypatch.setattr(tokens, "_BATCHES_BETWEEN_CHECKPOINTS", 2)
    monkeypatch.setattr(split, "_CHARACTERS_BETWEEN_CHECKPOINTS", 20_000)
    books = [str(write_book(tmp_path / f"{name}.txt", 400, seed)) for seed, name in enumerate("ab")]
    monkeypatch.setenv("MINI_BERT_CACHE", str(tmp_path / "undisturbed"))
    whole: list[tuple[str, int, int]] = []
    fingerprint = opened(*books, progress=lambda *state: whole.append(state)).tokenizer.fingerprint
    monkeypatch.setenv("MINI_BERT_CACHE", str(tmp_path / "interrupted"))
    told: list[tuple[str, int, int]] = []
    calls = 0
    while calls < 100:
        calls += 1

        def interrupt(*state: object, end: int = len(told) + 12) -> None:
            told.append(state)
            if len(told) >= end:
                raise KeyboardInterrupt

        with suppress(KeyboardInterrupt):
            corpus = opened(*books, progress=interrupt)
            break
    assert calls > 5
    assert corpus.tokenizer.fingerprint == fingerprint
    assert store_digest(tmp_path / "interrupted") == store_digest(tmp_path / "undisturbed")
    assert not list((tmp_path / "interrupted").rglob(".unfinished-*"))
    for doing in ("reading", "tokenising"):
        assert any(what.startswith(doing) and "going on at" in what and done for what, done, _ in told)
    assert len(told) < len(whole) + 5 * calls, "after an interruption little is done again"
    counted = [what for what, _, _ in told if what.startswith("counting")]
    assert counted == sorted(counted), "the first corpus is not counted again when the second has begun"
    first = next(number for number, (what, _, _) in enumerate(told) if what.startswith("learning"))
    assert not any(what.startswith("counting") for what, _, _ in told[first:])


def test_two_processes_that_prepare_the_same_corpus_do_not_disturb_each_other(book: Path, cache: Path) -> None:
    child = (
        "import sys; from mini_bert.config.schema import DataConfig, TokenizerConfig\n"
        "from mini_bert.data.tokens import open_tokens\n"
        f"corpus = open_tokens(DataConfig(corpus=({str(book)!r},)), TokenizerConfig(), 90)\n"
        "print(corpus.provenance['corpora'][0]['index_sha256'])"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    children = [
        subprocess.Popen([sys.executable, "-c", child], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    answers = {child.communicate()[0] for child in children}
    assert [child.returncode for child in children] == [0, 0, 0]
    assert len(answers) == 1
    assert not [*cache.rglob(".tmp-*"), *cache.rglob(".unfinished-*")]


class TestHeldOut:
    def test_share_and_bounds(self) -> None:
        hashes = np.random.default_rng(0).integers(0, 2**63, 1000).astype(np.uint64)
        for fraction, expected in [(0.02, 20), (1e-9, 1), (0.499, 499)]:
            held_out = held_out_documents(hashes, fraction)
            assert held_out.sum() == expected
            assert hashes[held_out].max() < hashes[~held_out].min()

    def test_order_does_not_matter_and_copies_stay_together(self) -> None:
        hashes = np.array([5, 3, 9, 3, 7, 3], np.uint64)
        assert held_out_documents(hashes, 0.1).tolist() == [False, True, False, True, False, True]
        assert held_out_documents(np.array([3, 3, 9], np.uint64), 0.4).tolist() == [True, True, False]
        assert held_out_documents(np.array([3, 9, 9, 9], np.uint64), 0.49).tolist() == [True, False, False, False]

    def test_at_least_one_on_each_side(self) -> None:
        assert held_out_documents(np.array([8, 2], np.uint64), 0.02).tolist() == [False, True]
        for hashes in ([4], [4, 4], []):
            with pytest.raises(DataError, match="at least two"):
                held_out_documents(np.array(hashes, np.uint64), 0.02)

    def test_the_same_documents_wherever_they_stand(self, tmp_path: Path, letters: WordPiece) -> None:
        lines = [json.dumps({"text": f"This is document {'abcdefghijklmnopqrst'[n]}."}) for n in range(20)]
        found = []
        for name, order in [("a", lines), ("b", lines[::-1])]:
            path = tmp_path / f"{name}.jsonl"
            path.write_text("\n".join(order))
            found.append({ids.tobytes() for ids in opened(str(path), tokenizer=letters).held_out.documents()})
        assert found[0] == found[1]


def test_a_vocabulary_file_is_used(book: Path, tmp_path: Path, letters: WordPiece) -> None:
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join(letters.vocabulary))
    settings = TokenizerConfig(vocab_file=str(vocabulary))
    data = DataConfig(corpus=(str(book),))
    assert open_tokens(data, settings, 90).tokenizer.vocabulary == letters.vocabulary
    with pytest.raises(DataError, match=r"--model.vocab-size 79"):
        open_tokens(data, settings, 60)


def test_a_corpus_too_small_for_the_vocabulary_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "small.jsonl"
    path.write_text('{"text": "One two three."}\n{"text": "Four five six."}\n')
    with pytest.raises(DataError, match="8192"):
        opened(str(path), vocab_size=8192)


def test_a_large_corpus_is_sampled_for_its_vocabulary(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Counter] = []
    real = vocabularies.learn_vocabulary
    monkeypatch.setattr(
        vocabularies, "learn_vocabulary", lambda counts, *rest: seen.append(counts) or real(counts, *rest)
    )
    opened(str(book))
    monkeypatch.setattr(vocabularies, "VOCABULARY_CHARACTERS", book.stat().st_size // 4)
    opened(str(book))
    assert 0.2 < seen[1].total() / seen[0].total() < 0.35


def test_provenance_says_what_the_tokens_are_made_of(book: Path, letters: WordPiece) -> None:
    corpus = opened(f"{book}=2.5", tokenizer=letters)
    [entry] = corpus.provenance["corpora"]
    assert entry["weight"] == 2.5
    assert entry["files"] == [{"name": "book.txt", "sha256": hashlib.sha256(book.read_bytes()).hexdigest()}]
    assert corpus.provenance["tokenizer"]["fingerprint"] == letters.fingerprint
    assert json.loads(json.dumps(corpus.provenance)) == corpus.provenance


def test_progress_is_told(book: Path) -> None:
    told: list[tuple[str, int, int]] = []
    opened(str(book), progress=lambda *state: told.append(state))
    assert {state[0].split()[0] for state in told} == {"reading", "counting", "learning", "tokenising"}
    assert all(done <= total or not total for _, done, total in told)


def test_a_cache_that_cannot_be_written_is_named(
    book: Path, tmp_path: Path, letters: WordPiece, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("x")
    monkeypatch.setenv("MINI_BERT_CACHE", str(in_the_way))
    with pytest.raises(StorageError, match="MINI_BERT_CACHE"):
        opened(str(book), tokenizer=letters)
    with pytest.raises(StorageError, match="MINI_BERT_CACHE"):
        opened(str(book))


@pytest.mark.data
def test_registered_corpora_become_batches() -> None:
    from mini_bert.config.schema import Config

    config = Config.model_validate({"data": {"corpus": ["brown", "wikitext-2=0.5"]}})
    corpus = open_tokens(config.data, config.tokenizer, config.model.vocab_size)
    assert corpus.train.n_documents + corpus.held_out.n_documents == 500 + 122
    batch = BatchStream(corpus.train, config, corpus.tokenizer).batch(0)
    assert batch.input_ids.shape == (64, 64)
    unknown = sum(np.count_nonzero(ids == corpus.tokenizer.unk_id) for ids in corpus.train.documents())
    assert unknown < 1e-4 * corpus.train.n_tokens
