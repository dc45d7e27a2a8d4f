"""`mini-bert tokenizer train|encode|explain`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from mini_bert.cli import DONE
from mini_bert.cli.options import ConfigOptions, Flag, option
from mini_bert.cli.texts import texts_or_lines

if TYPE_CHECKING:
    from mini_bert.text.wordpiece import WordPiece

Tokenizer = Positional[Annotated[str, arg(metavar="TOKENIZER")]]
Texts = Positional[Annotated[tuple[str, ...], arg(metavar="TEXT…", help_behavior_hint="")]]


def train(
    options: Annotated[ConfigOptions, arg(name="")],
    *,
    out: Annotated[str, option("folder for vocab.txt, tokenizer.json and tokenizer_config.json", "FOLDER")],
) -> int:
    """Learn a vocabulary: the very one that `mini-bert pretrain` would learn from the same texts.

    The same texts give the same vocabulary to the byte, in any process and for any order of the lines.

    Examples:
      mini-bert tokenizer train --corpus python-docs --out my-tokenizer
      mini-bert tokenizer train --corpus 'texts/*.txt' --model.vocab-size 4096 --out my-tokenizer
      mini-bert pretrain --corpus 'texts/*.txt' --tokenizer.vocab-file my-tokenizer/vocab.txt
    """
    from mini_bert.cli.progress import preparation
    from mini_bert.data.tokens import open_tokens

    config = options.load()
    with preparation() as progress:
        corpus = open_tokens(config.data, config.tokenizer, config.model.vocab_size, progress=progress)
    corpus.tokenizer.save(out)
    print(f"{corpus.tokenizer.vocab_size:,} pieces in {Path(out)}")
    tokens = corpus.train.n_tokens + corpus.held_out.n_tokens
    print(f"The texts are {tokens:,} pieces long. Try: mini-bert tokenizer encode {out} 'a text'", file=sys.stderr)
    return DONE


def encode(tokenizer: Tokenizer, texts: Texts = (), *, json: Flag = False) -> int:
    """Show the pieces and ids of texts; from standard input, line by line, where no text is given.

    Examples:
      mini-bert tokenizer encode runs/demo 'unaffable'
      mini-bert tokenizer encode bert-base-uncased/vocab.txt --json < lines.txt

    Args:
        tokenizer: a run, a model folder, a vocab.txt or a tokenizer.json.
        texts: what to encode.
        json: one JSON object a line: ids, tokens, offsets, word_ids.
    """
    wordpiece = _load(tokenizer)
    for text in texts_or_lines(texts):
        encoding = wordpiece.encode(text)
        if json:
            import json as json_format

            print(json_format.dumps(encoding._asdict(), ensure_ascii=False))
        else:
            print(" ".join(encoding.tokens))
            print(" ".join(map(str, encoding.ids)))
    return DONE


def explain(tokenizer: Tokenizer, texts: Texts = ()) -> int:
    """Show step by step how texts fall into pieces: what was normalised, and which pieces were tried for each word.

    Examples:
      mini-bert tokenizer explain runs/demo 'Unaffable, isn’t it?'

    Args:
        tokenizer: a run, a model folder, a vocab.txt or a tokenizer.json.
        texts: what to explain.
    """
    wordpiece = _load(tokenizer)
    for text in texts_or_lines(texts):
        print(wordpiece.explain(text))
    return DONE


def _load(tokenizer: str) -> WordPiece:
    from mini_bert.text.wordpiece import WordPiece

    path = Path(tokenizer)
    if path.is_file() or (path / "vocab.txt").is_file() or (path / "tokenizer.json").is_file():
        return WordPiece.load(path)
    from mini_bert.cli.models import find_model

    return WordPiece.load(find_model(tokenizer, "TOKENIZER"))
