"""A good file, spoiled at random: bits, lengths, numbers, words, brackets, lines; a pure function of a number."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from mini_bert.random_streams import RandomStream

LARGEST = 2**18
"""Bytes of a spoiled file."""

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_WORD = re.compile(rb'"(?:[^"\\\n]|\\.)*"|[A-Za-z_][\w-]*')
_NUMBERS = (
    *(b"-1", b"0", b"1", b"7", b"1.5", b"1e999", b"-1e308", b"NaN", b"Infinity", b".nan", b".inf", b"0x10", b"1_0"),
    *(str(2**power).encode() for power in (15, 16, 31, 32, 40, 62, 63, 64, 300)),
    *(b"9" * 4000, b"9" * 5000, b"1:1:1", b"2001-99-01", b"true", b"null", b'"3"', b"[]", b"{}"),
)
_WORDS = (
    *(b'""', b'"\\ud800"', b'"\\u0000"', b'"\\u001b[2J"', b'"../../etc/passwd"', b'"/dev/zero"', b"null", b"[[]]"),
    *(b"{}", b"3", b"-1", b"~", b"true", b'"' + b"x" * 5000 + b'"', "\u2028".encode(), "\U0001f600".encode()),
    *(b"\xff", b"\0", b"!!python/object/apply:os.system [touch canary]", b"!!python/name:os.system x", b"!x y"),
    *(b"&a [*a, *a]", b"<<: *a", b"cos\nsystem\n(S'touch canary'\ntR.", b"__class__", b"extends: mine.yaml"),
    *(b"? [a]\n: b", b"--- a\n", b"%YAML 9\n"),
)
_BRACKETS = (b"[", b'{"a":', b"[{", b"(", b"]", b"- ", b"? ", b"\x5d", b"\n ")


class _Draw:
    """Small numbers, one after the other."""

    def __init__(self, seed: int, kind: str, number: int) -> None:
        self._words = RandomStream(seed, f"spoiled/{kind}", number).words(0, 16).tolist()
        self._next = 0

    def below(self, bound: int) -> int:
        """From 0 to `bound - 1`, after 64 of them the same again."""
        word = self._words[self._next % len(self._words)] + self._next // len(self._words)
        self._next += 1
        return int(word) % max(1, bound)

    def of(self, choices: Sequence[bytes]) -> bytes:
        """One of several."""
        return choices[self.below(len(choices))]


def spoiled(good: Sequence[bytes], kind: str, number: int, seed: int = 0) -> bytes:
    """One of the good contents after one to four changes, drawn by `seed`, `kind` and `number`."""
    draw = _Draw(seed, kind, number)
    content = draw.of(good)
    for _ in range(1 + draw.below(4)):
        content = _CHANGES[draw.below(len(_CHANGES))](content, draw, good)[:LARGEST]
    return content


Change = Callable[[bytes, _Draw, Sequence[bytes]], bytes]


def _flip_bits(content: bytes, draw: _Draw, good: Sequence[bytes]) -> bytes:
    changed = bytearray(content)
    for _ in range(min(len(changed), 1 + draw.below(4))):
        changed[draw.below(len(changed))] ^= 1 << draw.below(8)
    return bytes(changed)


def _cut_off(content: bytes, draw: _Draw, good: Sequence[bytes]) -> bytes:
    return content[: draw.below(len(content))]


def _leave_out(content: bytes, draw: _Draw, good: Sequence[bytes]) -> bytes:
    start = draw.below(len(content))
    return content[:start] + content[start + 1 + draw.below(20) :]


def _splice(content: bytes, draw: _Draw, good: Sequence[bytes]) -> bytes:
    other = draw.of(good)
    start, place = draw.below(len(other)), draw.below(len(content))
    return content[:place] + other[start : start + 1 + draw.below(200)] + content[place + draw.below(20) :]


def _repeat(content: bytes, draw: _Draw, good: Sequence[bytes]) -> bytes:
    start = draw.below(len(content))
    stop = start + 1 + draw.below(50)
    return content[:stop] + content[start:stop] * (1, 2, 30, 1000)[draw.below(4)] + content[stop:]


def _put_in(content: bytes, draw: _Draw, good: Sequence[bytes]) -> bytes:
    place = draw.below(len(content) + 1)
    return content[:place] + draw.of(_WORDS) + content[place:]


def _nest(content: bytes, draw: _Draw, good: Sequence[bytes]) -> bytes:
    place = draw.below(len(content) + 1)
    return content[:place] + draw.of(_BRACKETS) * (1, 3, 500, 60_000)[draw.below(4)] + content[place:]


def _another_number(content: bytes, draw: _Draw, good: Sequence[bytes]) -> bytes:
    return _in_place_of(_NUMBER, _NUMBERS, content, draw)


def _another_word(content: bytes, draw: _Draw, good: Sequence[bytes]) -> bytes:
    return _in_place_of(_WORD, _WORDS, content, draw)


def _another_length(content: bytes, draw: _Draw, good: Sequence[bytes]) -> bytes:
    size, place = (1, 2, 4, 8)[draw.below(4)], draw.below(len(content))
    value = (0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)[draw.below(10)]
    return content[:place] + (value % 2 ** (8 * size)).to_bytes(size, "little") + content[place + size :]


def _exchange_lines(content: bytes, draw: _Draw, good: Sequence[bytes]) -> bytes:
    lines = content.split(b"\n")
    one, other = draw.below(len(lines)), draw.below(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


def _in_place_of(pattern: re.Pattern[bytes], choices: Sequence[bytes], content: bytes, draw: _Draw) -> bytes:
    """One match of the pattern replaced."""
    found = list(pattern.finditer(content[:20_000]))
    if not found:
        return content
    match = found[draw.below(len(found))]
    return content[: match.start()] + draw.of(choices) + content[match.end() :]


_CHANGES: tuple[Change, ...] = (
    _flip_bits,
    _cut_off,
    _leave_out,
    _splice,
    _repeat,
    _put_in,
    _nest,
    _another_number,
    _another_number,
    _another_word,
    _another_word,
    _another_length,
    _exchange_lines,
)
