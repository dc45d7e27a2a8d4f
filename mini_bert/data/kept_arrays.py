"""What is computed once from a corpus and kept: a few arrays in one file of the cache, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.cache import cache_key, not_written
from mini_bert.data.sources import cache_home
from mini_bert.data.unfinished import claimed
from mini_bert.errors import ChecksumError

if TYPE_CHECKING:
    from mini_bert.data.work import Progress


def kept_arrays(
    folder: str,
    key: tuple[object, ...],
    compute: Callable[[], Mapping[str, NDArray[Any]]],
    progress: Progress,
) -> dict[str, NDArray[Any]]:
    """The arrays of `folder` and `key` from the cache; computed now if they are not there, by one process of many.

    Args:
        folder: name of the folder in the cache, in the plural: what the arrays are.
        key: plain values on which the arrays depend, and nothing else.
        compute: gives the arrays by name.
        progress: told when another process is waited for.

    Raises:
        ChecksumError: the file has been altered.
        StorageError: the cache cannot be written.
    """
    from zipfile import BadZipFile

    path = cache_home() / folder / f"{cache_key(*key)}.npz"
    if not path.is_file():
        with claimed(path, lambda: progress(f"waiting for another process: {folder}", 0, 0)) as workplace:
            if workplace is not None:
                arrays = compute()
                try:
                    with (workplace / path.name).open("wb") as file:
                        np.savez(file, **arrays)
                    (workplace / path.name).replace(path)
                except OSError as error:
                    raise not_written(path, error) from error
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        altered = ChecksumError(str(path), got=str(error), expected="the file as written", advice="Delete this file.")
        raise altered from error
