"""Numbers as people read them. None, which JSON has for what is not finite, becomes a dash."""

from __future__ import annotations

from collections.abc import Sequence

from mini_bert.reports.table import NOTHING

_LOPSIDED = 1.5
"""Halves of an interval this many times as long as each other are not one number."""


def number(value: float | None, decimals: int = 3) -> str:
    """A number with a fixed number of decimals.

    >>> number(4.20071), number(None)
    ('4.201', '—')
    """
    return NOTHING if value is None else f"{value:,.{decimals}f}"


def percent(share: float | None) -> str:
    """A share as a percentage.

    >>> percent(0.31754)
    '31.8 %'
    """
    return NOTHING if share is None else f"{100 * share:.1f} %"


def signed(value: float | None, decimals: int = 3, scale: float = 1) -> str:
    """A difference with its sign.

    >>> signed(0.21432), signed(-0.0214, 1, 100), signed(None)
    ('+0.214', '-2.1', '—')
    """
    return NOTHING if value is None else f"{scale * value:+.{decimals}f}"


def figures(value: float | None) -> str:
    """A positive number with three figures, such as a perplexity.

    >>> figures(66.686), figures(8123.4), figures(1.5e9)
    ('66.7', '8,123', '1.5e+09')
    """
    if value is None:
        return NOTHING
    if value >= 1e6:
        return f"{value:.3g}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def between(ends: Sequence[float | None] | None, decimals: int = 3, scale: float = 1) -> str:
    """The ends of an interval.

    >>> between([4.1243, 4.3576]), between([0.3033, 0.3321], 1, 100), between([None, None])
    ('4.124 – 4.358', '30.3 – 33.2', '—')
    """
    if ends is None or None in ends:
        return NOTHING
    return " – ".join(f"{scale * end:,.{decimals}f}" for end in ends if end is not None)


def difference(value: float, ends: Sequence[float | None] | None, decimals: int = 3, scale: float = 1) -> str:
    """A difference with its sign, and the ends of its interval.

    >>> difference(0.0412, [0.0303, 0.0521], 1, 100), difference(-0.5, None)
    ('+4.1 (3.0 – 5.2)', '-0.500 (—)')
    """
    return f"{signed(value, decimals, scale)} ({between(ends, decimals, scale)})"


def within(
    value: float | None,
    ends: Sequence[float | None] | None,
    decimals: int = 3,
    scale: float = 1,
    unit: str = "",
) -> str:
    """A number and the larger half of its interval; both ends where the halves are wide and very different.

    >>> within(4.2443, [4.1243, 4.3576], 2), within(0.3178, [0.3033, 0.3321], 1, 100, " %"), within(None, None)
    ('4.24 ± 0.12', '31.8 ± 1.5 %', '—')
    >>> within(1.0, [0.2069, 1.0], 1, 100, " %"), within(0.625, [0.047, 0.98], 1, 100, " %")
    ('100.0 (20.7 – 100.0) %', '62.5 (4.7 – 98.0) %')
    """
    if value is None:
        return NOTHING
    written = f"{scale * value:,.{decimals}f}"
    if ends is not None and None not in ends:
        smaller, larger = sorted(abs(value - end) for end in ends if end is not None)
        lopsided = larger > _LOPSIDED * smaller and scale * larger >= 10 ** (1 - decimals)
        written += f" ({between(ends, decimals, scale)})" if lopsided else f" ± {scale * larger:,.{decimals}f}"
    return written + unit


def duration(seconds: float | None) -> str:
    """Seconds in the unit that suits them.

    >>> duration(0.25), duration(42), duration(600), duration(6120)
    ('0.25 s', '42.0 s', '10.0 min', '1.7 h')
    """
    if seconds is None:
        return NOTHING
    if seconds < 1:
        return f"{seconds:.2g} s"
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.1f} s"


def size(bytes: float | None) -> str:
    """Bytes of memory or of a disk, with decimal prefixes.

    >>> size(3.6e8), size(450_000), size(10_000_000_000), size(51), size(None)
    ('360 MB', '0.45 MB', '10 GB', '51 bytes', '—')
    """
    if bytes is None:
        return NOTHING
    if bytes < 1e3:
        return f"{bytes:.0f} bytes"
    if bytes >= 1e9:
        return f"{bytes / 1e9:.3g} GB"
    return f"{bytes / 1e6:.0f} MB" if bytes >= 1e7 else f"{bytes / 1e6:.2g} MB"
