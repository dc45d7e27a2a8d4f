"""Token files (RELIABILITY R7): nothing altered is ever opened, and a folder is there whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mini_bert.data.shard_writer import ShardWriter
from mini_bert.data.shards import TokenStore, index_digest
from mini_bert.errors import ChecksumError

VOCAB_SIZE = 512
FACTS = {"vocab_size": VOCAB_SIZE, "tokenizer": "t", "corpus": "c"}


def write(folder: Path, documents: int = 40, shard_tokens: int = 1200, largest: int = VOCAB_SIZE) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    writer = ShardWriter(folder, shard_tokens=shard_tokens)
    texts = []
    for number in range(documents):
        sentences = draw.integers(1, 30, draw.integers(1, 12))
        ids = draw.integers(0, largest, sentences.sum()).astype(np.uint16)
        writer.add(f"document {number}", ids, sentences, number.to_bytes(4, "little"))
        texts.append(ids)
    writer.finish(FACTS)
    return texts


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards") / "store"
    write(folder)
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "store"))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    texts = write(tmp_path / "store")
    store = TokenStore(tmp_path / "store")
    assert len(store.shards) == 3
    offsets = store.document_offsets
    assert store.names == [f"document {number}" for number in range(40)]
    for number, text in enumerate(texts):
        np.testing.assert_array_equal(store.read(int(offsets[number]), int(offsets[number + 1])), text)
    assert set(offsets) <= set(store.sentence_offsets), "a document ends where a sentence ends"
    assert len(np.unique(store.document_hashes)) == 40


def test_parts_of_a_document_become_one(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path / "store")
    for name, ids in [("a", [5, 6]), ("b", [7]), ("b", [8, 9]), ("a", [5])]:
        writer.add(name, np.array(ids, np.uint16), np.array([len(ids)]), bytes(ids))
    writer.finish(FACTS)
    store = TokenStore(tmp_path / "store")
    assert store.document_offsets.tolist() == [0, 2, 5, 6]
    assert store.names == ["a", "b", "a"]


def refused(folder: Path) -> ChecksumError:
    with pytest.raises(ChecksumError) as caught:
        TokenStore(folder)
    return caught.value


def test_200_flipped_bits_are_found(folder: Path) -> None:
    draw = np.random.default_rng(1)
    paths = sorted(folder.iterdir())
    for trial in range(200):
        path = paths[trial % len(paths)]
        data = bytearray(path.read_bytes())
        place = int(draw.integers(len(data)))
        data[place] ^= 1 << int(draw.integers(8))
        original, damaged = path.read_bytes(), bytes(data)
        path.write_bytes(damaged)
        error = refused(folder)
        assert path.name in str(error) or path.name == "index.json"
        path.write_bytes(original)
    TokenStore(folder)


def test_the_damaged_mebibyte_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    writer = ShardWriter(folder)
    writer.add("long", np.ones(1_700_000, np.uint16), np.array([1_700_000]), b"")
    writer.finish(FACTS)
    path = folder / "tokens-00000.bin"
    data = bytearray(path.read_bytes())
    data[2_500_000] ^= 2
    path.write_bytes(data)
    error = refused(folder)
    assert "tokens-00000.bin" in error.argument
    assert "bytes 2097152..3145727" in str(error.got)


def test_20_truncations_and_an_added_byte_are_found(folder: Path) -> None:
    draw = np.random.default_rng(2)
    for path in sorted(folder.iterdir()):
        original = path.read_bytes()
        for length in [0, 1, len(original) - 1, *draw.integers(0, len(original), 20).tolist()]:
            path.write_bytes(original[:length])
            assert path.name in str(refused(folder))
        path.write_bytes(original + b"\0")
        refused(folder)
        path.unlink()
        assert path.name in str(refused(folder))
        path.write_bytes(original)
    TokenStore(folder)


def test_an_id_outside_the_vocabulary_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    writer = ShardWriter(folder)
    ids = np.full(1_000_000, 7, np.uint16)
    ids[700_001] = VOCAB_SIZE
    writer.add("one", ids, np.array([1_000_000]), b"")
    writer.finish(FACTS)
    error = refused(folder)
    assert str(error.got) == "token id 512 at byte 1400002"
    assert "tokens-00000.bin" in error.argument


def rewrite_index(folder: Path, change: dict) -> None:
    index = json.loads((folder / "index.json").read_text())
    del index["sha256"]
    index |= change
    (folder / "index.json").write_text(json.dumps(index | {"sha256": index_digest(index)}))


def test_an_index_that_does_not_fit_its_files_is_found(folder: Path) -> None:
    rewrite_index(folder, {"counts": {"documents": 39, "sentences": 1, "tokens": 1}})
    assert "index.json" in refused(folder).argument


def test_swapped_shards_are_found(folder: Path) -> None:
    first, second = folder / "tokens-00000.bin", folder / "tokens-00001.bin"
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    assert "tokens-0000" in refused(folder).argument


@pytest.mark.parametrize(
    "text", ["", "[]", "null", '{"sha256": 1}', "{" * 100_000, '{"sha256": "x", "files": 3}', "\xff"]
)
def test_a_hostile_index_is_refused(folder: Path, text: str) -> None:
    (folder / "index.json").write_bytes(text.encode("latin1"))
    refused(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"files": []},
        {"files": {"../../x": 3}},
        {"shards": ["nope"]},
        {"shards": 4},
        {"counts": None},
        {"vocab_size": "a"},
        {"format": "x"},
    ],
)
def test_a_hostile_index_with_a_right_sha256_is_refused(folder: Path, change: dict) -> None:
    rewrite_index(folder, change)
    refused(folder)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
PLACES = [
    *((field,) for field in ("files", "shards", "counts", "vocab_size", "format", "largest_id")),
    *(("files", "tokens-00001.bin", field) for field in ("bytes", "sha256", "crc32_per_mib")),
    *(("files", "documents.bin", field) for field in ("bytes", "sha256", "crc32_per_mib")),
    ("counts", "tokens"),
]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(PLACES), value=PLAIN)
def test_any_field_may_hold_anything(folder: Path, place: tuple[str, ...], value: object) -> None:
    """The index is opened, or refused by name: no other error, whatever stands in a field."""
    original = (folder / "index.json").read_bytes()
    index = json.loads(original)
    del index["sha256"]
    inner = index
    for step in place[:-1]:
        inner = inner[step]
    unchanged = inner[place[-1]] == value
    inner[place[-1]] = value
    (folder / "index.json").write_text(json.dumps(index | {"sha256": index_digest(index)}))
    try:
        TokenStore(folder)
    except ChecksumError:
        assert not unchanged
    finally:
        (folder / "index.json").write_bytes(original)
