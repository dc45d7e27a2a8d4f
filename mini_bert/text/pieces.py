"""How pieces are written, and how a row of them becomes text again."""

from __future__ import annotations

from collections.abc import Sequence

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

CONTINUATION = "##"
"""Stands before every piece that goes on with a word."""

LONGEST_WORD = 100
"""A word of more characters is [UNK], as in BERT: nobody wants the pieces of a base64 blob."""

_RESPACED = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" do not", " don't"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)
"""What Hugging Face's decoder replaces (`cleanup`), in this order, in each piece with the space before it."""


def join_pieces(pieces: Sequence[str]) -> str:
    """Text of a row of pieces: those with ## join the one before, all others stand behind a space.

    The space before `. , ? !` goes. Those around an apostrophe stay: it is a piece of its own, and Hugging Face's
    decoder, which this one equals, looks at one piece at a time. The first piece stays as it is, with its ##.

    >>> join_pieces(["un", "##able", ",", "it", "'", "s", "."])
    "unable, it ' s."
    """
    text = []
    for place, piece in enumerate(pieces):
        if place > 0:
            piece = piece[len(CONTINUATION) :] if piece.startswith(CONTINUATION) else f" {piece}"
        for written, wanted in _RESPACED:
            piece = piece.replace(written, wanted)
        text.append(piece)
    return "".join(text)
