from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mini_bert.errors import InvalidInputError
from mini_bert.random_streams import RandomStream
from mini_bert.verification.oracles.philox import philox, stream_lanes, stream_words

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)
STREAM = RandomStream(seed=0, name="dropout", step=7)

streams = st.builds(
    RandomStream, seed=st.integers(0, 2**64 - 1), name=st.text(max_size=8), step=st.integers(0, 2**64 - 1)
)


def test_philox_is_the_published_one() -> None:
    """Known answers of Random123's kat_vectors for philox4x64-10: zeros, ones, and the digits of π."""
    assert philox(0, (0, 0)) == (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B)
    ones = 2**64 - 1
    assert philox(2**256 - 1, (ones, ones)) == (
        0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0,
    )  # fmt: skip
    pi = (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89)
    counter = sum(word << 64 * place for place, word in enumerate(pi))
    assert philox(counter, (0x452821E638D01377, 0xBE5466CF34E90C6C)) == (
        0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6,
    )  # fmt: skip


@quick
@given(streams, st.integers(0, 2**60), st.integers(0, 5))
def test_words_are_philox_of_seed_name_step_and_place(stream: RandomStream, first: int, blocks: int) -> None:
    assert stream.words(first, blocks).tolist() == stream_words(*stream, first, blocks)


def test_golden_values() -> None:
    """These may never change: results and resumes of every run ever made hang on them."""
    assert STREAM.words(0, 1).tolist() == [
        13247907927774870838,
        2240028244265969423,
        6482955475253133356,
        6421144823195723348,
    ]
    assert STREAM.at("layer_0.attention").words(3, 1).tolist() == [
        16430566993509504500,
        10133866639741059866,
        351692147800233995,
        16435023627311391760,
    ]
    assert STREAM.lanes(0, 2, 3).tolist() == [[15670, 58394, 1553], [56298, 57599, 3338]]
    assert STREAM.integers(1000, 2, 3, first_row=5).tolist() == [[233, 160, 147], [598, 687, 388]]
    assert STREAM.uniform(1, 2).tolist() == [[0.7181705278090725, 0.12143217444310261]]


@quick
@given(streams, st.integers(1, 40), st.integers(0, 12), st.integers(0, 12), st.integers(0, 2**40))
def test_a_table_may_be_cut_between_any_rows(
    stream: RandomStream, columns: int, head: int, tail: int, first: int
) -> None:
    for draw in (
        lambda rows, row: stream.lanes(row, rows, columns),
        lambda rows, row: stream.integers(1000, rows, columns, first_row=row),
        lambda rows, row: stream.uniform(rows, columns, first_row=row),
    ):
        whole = draw(head + tail, first)
        assert whole.shape == (head + tail, columns)
        np.testing.assert_array_equal(np.concatenate((draw(head, first), draw(tail, first + head))), whole)


@quick
@given(streams, st.integers(0, 2**40), st.integers(1, 40))
def test_lanes_are_the_quarters_of_the_words(stream: RandomStream, row: int, columns: int) -> None:
    lanes = stream.lanes(row, 1, columns)
    assert lanes.dtype == np.uint16
    assert lanes[0].tolist() == stream_lanes(*stream, row, columns)


@quick
@given(streams, st.integers(1, 2**32))
def test_integers_are_the_upper_half_of_a_word_scaled_to_the_bound(stream: RandomStream, bound: int) -> None:
    words = stream_words(*stream, 0, 3)
    drawn = stream.integers(bound, 3, 4)
    assert drawn.ravel().tolist() == [(word >> 32) * bound >> 32 for word in words]
    assert drawn.min() >= 0
    assert drawn.max() < bound


@quick
@given(streams)
def test_uniform_is_the_upper_53_bits(stream: RandomStream) -> None:
    drawn = stream.uniform(2, 4)
    assert drawn.ravel().tolist() == [(word >> 11) / 2**53 for word in stream_words(*stream, 0, 2)]
    assert ((drawn >= 0) & (drawn < 1)).all()


def test_seeds_names_steps_and_places_draw_differently() -> None:
    tables = [
        STREAM, STREAM._replace(seed=1), STREAM._replace(step=8), STREAM._replace(name="masking"), STREAM.at("a"),
        STREAM.at("b"), STREAM.at("a").at("b"), STREAM._replace(seed=2**64 - 1),
    ]  # fmt: skip
    words = {tuple(table.words(block, 1).tolist()) for table in tables for block in (0, 1, 2**32, 2**63)}
    assert len(words) == 4 * len(tables)


def test_drawing_changes_nothing() -> None:
    first = STREAM.words(5, 2)
    STREAM.words(0, 100)
    np.testing.assert_array_equal(STREAM.words(5, 2), first)
    assert RandomStream(0, "dropout", 7) == STREAM


def test_draws_are_spread_evenly() -> None:
    n, cells = 160_000, 16
    for drawn in (STREAM.lanes(0, n // 40, 40).ravel() >> 12, STREAM.integers(cells, n).ravel()):
        counts = np.bincount(drawn, minlength=cells)
        chi_square = float(((counts - n / cells) ** 2 / (n / cells)).sum())
        assert abs(chi_square - (cells - 1)) < 5.0 * math.sqrt(2.0 * (cells - 1))


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_outside_64_bits_is_refused(seed: int) -> None:
    with pytest.raises(InvalidInputError, match=rf"seed: got {seed}; expected an integer from 0 to 2\*\*64 - 1"):
        RandomStream(seed, "any").words(0, 1)


@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1])
def test_the_outermost_seeds_work(seed: int) -> None:
    assert RandomStream(seed, "any").words(0, 1).tolist() == stream_words(seed, "any", 0, 0, 1)
