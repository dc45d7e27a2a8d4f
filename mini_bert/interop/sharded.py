"""Do the shards of a model hold the tensors that their index promises: each one once, where it says, and no others?

An index is JSON: `{"metadata": {…}, "weight_map": {tensor: file}}`, beside the files that it names. transformers writes
`model.safetensors.index.json` or `pytorch_model.bin.index.json` for models too large for one file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NoReturn

from numpy.typing import NDArray

from mini_bert.errors import CheckpointError
from mini_bert.foreign_files import LARGEST_JSON, parse_json, read_regular_file
from mini_bert.interop import safetensors_guard, torch_pickle

Arrays = dict[str, NDArray[Any]]

_LONGEST_MESSAGE = 200
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{,200}")


def load(index_path: Path, *, widen: bool = False) -> Arrays:
    """Read every shard of an index: name → array, in the index's order.

    With `widen`, float16 and bfloat16 become float32 (which holds each of their values exactly).

    Raises:
        CheckpointError: index and shards contradict each other, or one of them is missing or damaged.
    """
    places = _weight_map(index_path)
    shards: dict[str, set[str]] = {}
    for name, shard in places.items():
        shards.setdefault(shard, set()).add(name)
    for shard in shards:
        if not (index_path.parent / shard).is_file():
            _refuse(index_path, f"no file {shard} beside it", "every shard that it names", "Fetch the shard, too.")
    found: Arrays = {}
    for shard, promised in shards.items():
        path = index_path.parent / shard
        arrays = load_file(path, widen=widen)
        for name in sorted(promised - arrays.keys()):
            _refuse(path, f"no tensor {name!r}", f"every tensor that {index_path.name} places there")
        for name in sorted(arrays.keys() - promised):
            _refuse(path, f"tensor {name!r}", f"only tensors that {index_path.name} places there")
        found.update(arrays)
    return {name: found[name] for name in places}


def load_file(path: Path, *, widen: bool = False) -> Arrays:
    """Read one file of weights, by its suffix: `.safetensors`, or torch's own.

    Raises:
        CheckpointError: it is missing, damaged, or holds anything but tensors.
    """
    if path.suffix == ".safetensors":
        return safetensors_guard.load(path, widen=widen)[0]
    return torch_pickle.load(path, widen=widen)


def _weight_map(path: Path) -> dict[str, str]:
    """Tensor → shard, once every shard's name is a plain name of the index's own kind."""
    try:
        index = parse_json(read_regular_file(path, LARGEST_JSON))
    except OSError as error:
        raise CheckpointError(str(path), got=error.strerror or error, expected="a readable index") from error
    except ValueError as error:
        raise CheckpointError(str(path), got=f"no JSON ({error})", expected="an index of shards") from error
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not places:
        _refuse(path, "no weight_map")
    suffix = ".safetensors" if path.name.endswith(".safetensors.index.json") else ".bin"
    for name, shard in places.items():
        if not isinstance(shard, str) or not _PLAIN_NAME.fullmatch(shard) or not shard.endswith(suffix):
            _refuse(path, f"{name!r} placed in {shard!r}", f"the plain name of a {suffix} file beside it")
    return dict(places)


def _refuse(
    path: Path,
    got: str,
    expected: str = 'an index, {"weight_map": {tensor: file}}',
    advice: str = "Fetch index and shards again, from the same place.",
) -> NoReturn:
    raise CheckpointError(str(path), got=got[:_LONGEST_MESSAGE], expected=expected, advice=advice)
