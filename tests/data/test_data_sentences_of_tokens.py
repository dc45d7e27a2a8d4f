"""The sentences of a tokenised corpus are those of its documents."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from mini_bert.config.schema import DataConfig, TokenizerConfig
from mini_bert.data.documents import read_documents
from mini_bert.data.tokens import open_tokens
from mini_bert.text.wordpiece import WordPiece


def test_sentences_document_by_document(book: Path, letters: WordPiece) -> None:
    data = DataConfig(corpus=(str(book),), held_out_fraction=0.1)
    train = open_tokens(data, TokenizerConfig(), 90, tokenizer=letters).train
    found = [[ids.tolist() for ids in sentences] for sentences in train.sentences()]
    texts = {document.name: document.sentences for document in read_documents(str(book))}
    assert found == [[letters.encode_ids(text) for text in texts[name]] for name in train.names()]
    assert [list(chain.from_iterable(sentences)) for sentences in found] == [ids.tolist() for ids in train.documents()]
    assert sum(map(len, found)) == train.n_sentences > len(found)


def test_of_a_long_text_an_evenly_spread_part_is_read(book: Path, letters: WordPiece) -> None:
    data = DataConfig(corpus=(str(book),), held_out_fraction=0.1)
    train = open_tokens(data, TokenizerConfig(), 90, tokenizer=letters).train
    whole = [ids.tolist() for ids in train.documents()]
    assert [ids.tolist() for ids in train.documents(train.n_tokens)] == whole
    for share in (0.9, 0.6, 0.5, 0.1):
        wanted = int(share * train.n_tokens)
        part = [ids.tolist() for ids in train.documents(wanted)]
        places = [whole.index(ids) for ids in part]
        assert places == sorted(set(places))
        assert len(part) == len(whole) * wanted // train.n_tokens  # not a half where nine tenths would do
        assert max(b - a for a, b in zip(places, [*places[1:], len(whole)], strict=True)) <= 1 / share + 2
        found = [list(chain.from_iterable(ids.tolist() for ids in one)) for one in train.sentences(wanted)]
        assert found == part
