"""Texts that tests make for themselves."""

from __future__ import annotations

import random
from pathlib import Path


def write_book(path: Path, paragraphs: int, seed: int) -> Path:
    """Words of 1 to 6 letters in paragraphs of 5 sentences, each paragraph on a line of about 430 characters.

    Drawn by Python's `random()`, whose numbers stay the same for ever, since golden values are made from them.
    """
    draw = random.Random(seed).random
    lines = []
    for _ in range(paragraphs):
        sentences = []
        for _ in range(5):
            words = ["".join("abcdefghij"[int(10 * draw())] for _ in range(1 + int(6 * draw()))) for _ in range(19)]
            sentences.append(" ".join(words).capitalize() + ".")
        lines.append(" ".join(sentences))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
