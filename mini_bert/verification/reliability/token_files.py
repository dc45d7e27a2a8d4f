"""Is a damaged token file ever opened? (R7)"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mini_bert.data.shard_writer import ShardWriter
from mini_bert.data.shards import TokenStore, index_digest
from mini_bert.errors import ChecksumError
from mini_bert.random_streams import RandomStream
from mini_bert.verification.reliability.promise import Experiment, Outcome, Scale

_VOCAB_SIZE = 512
_SHARD_TOKENS = 800_000
"""A shard is larger than a MiB, so that there is a place to tell."""


def damage(scale: Scale, folder: Path) -> Outcome:
    """Damage the files of a small store in every way; each must be refused, with the file and the place."""
    outcome, store, other = Outcome(), _write(folder / "store", seed=0), _write(folder / "other", seed=1)
    contents = {path.name: path.read_bytes() for path in sorted(store.iterdir())}
    names, shards = list(contents), [name for name in contents if name.startswith("tokens-")]
    flips, cuts = scale.of(full=200, quick=40), scale.of(full=20, quick=5)
    for trial in range(flips):
        name = names[trial % len(names)]
        place = _below(len(contents[name]), "flip", trial)
        changed = bytearray(contents[name])
        changed[place] ^= 1 << _below(8, "bit", trial)
        said = () if name == "index.json" else (name, f"bytes {place >> 20 << 20}..")
        _attempt(outcome, store, f"a bit at byte {place} of {name}", {name: bytes(changed)}, *said)
        scale.told(trial + 1, flips)
    for trial in range(cuts):
        name = names[trial % len(names)]
        place = _below(len(contents[name]), "cut", trial)
        said = (name,) if name == "index.json" else (name, f"ends at byte {place}")
        _attempt(outcome, store, f"{name} cut at byte {place}", {name: contents[name][:place]}, *said)
    for trial in range(cuts):
        name = shards[trial % len(shards)]
        ids = np.frombuffer(contents[name], "<u2").copy()
        place, id = _below(len(ids), "place", trial), _VOCAB_SIZE + _below(65536 - _VOCAB_SIZE, "id", trial)
        ids[place] = id
        index = _index(contents["index.json"], name, ids.tobytes())
        changed = {name: ids.tobytes(), "index.json": index}
        _attempt(
            outcome, store, f"id {id} of {_VOCAB_SIZE} in {name}", changed, name, f"token id {id} at byte {2 * place}"
        )
    one, two = shards[:2]
    _attempt(outcome, store, "two shards swapped", {one: contents[two], two: contents[one]}, "tokens-0000", "byte")
    for name in names:
        _attempt(outcome, store, f"{name} is missing", {name: None}, name)
        theirs = (other / name).read_bytes()
        if theirs != contents[name]:
            _attempt(outcome, store, f"{name} of another corpus", {name: theirs})
    TokenStore(store)
    outcome.measured = {"files": len(names), "bytes": sum(map(len, contents.values()))}
    return outcome


def _attempt(outcome: Outcome, store: Path, what: str, changed: Mapping[str, bytes | None], *said: str) -> None:
    """Count whether the store with these files changed (None: missing) is refused, in words that contain `said`."""
    before = {name: (store / name).read_bytes() for name in changed}
    for name, content in changed.items():
        (store / name).unlink() if content is None else (store / name).write_bytes(content)
    try:
        TokenStore(store)
        outcome.count(False, f"{what}: opened")
    except ChecksumError as error:
        missing = [words for words in said if words not in str(error)]
        outcome.count(not missing, f"{what}: refused without '{', '.join(missing)}': {error}")
    except Exception as error:
        outcome.count(False, f"{what}: {type(error).__name__} instead of a message: {error}")
    finally:
        for name, content in before.items():
            (store / name).write_bytes(content)


def _write(folder: Path, seed: int) -> Path:
    """Three shards of made-up ids."""
    with ShardWriter(folder, shard_tokens=_SHARD_TOKENS) as writer:
        for number in range(60):
            stream = RandomStream(seed, "made-up ids", number)
            lengths = 1 + stream.at("lengths").integers(60, 1000)[:, 0]
            ids = stream.integers(_VOCAB_SIZE, int(lengths.sum()))[:, 0].astype(np.uint16)
            writer.add(f"document {number}", ids, lengths, number.to_bytes(16, "little"))
        writer.finish({"vocab_size": _VOCAB_SIZE})
    return folder


def _index(written: bytes, name: str, content: bytes) -> bytes:
    """An index that calls `content` right."""
    index: dict[str, Any] = json.loads(written)
    del index["sha256"]
    index["files"][name]["sha256"] = hashlib.sha256(content).hexdigest()
    return json.dumps(index | {"sha256": index_digest(index)}).encode()


def _below(bound: int, what: str, trial: int) -> int:
    return int(RandomStream(3, what, trial).integers(bound, 1)[0, 0])


EXPERIMENTS = (
    Experiment(
        "R7",
        "token files with a flipped bit, cut short, swapped, missing, of another corpus, with an id too large",
        "refused when they are opened, with the file and the place",
        damage,
    ),
)
