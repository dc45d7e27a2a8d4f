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
    assert [[ids.tolist() for ids in sentences] for sentences in train.sentences(3)] == found[::3]
