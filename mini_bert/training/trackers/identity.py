"""Under which id does a tracker know this run? `trackers.json` in the run's folder remembers, for when it goes on."""

from __future__ import annotations

import json
from pathlib import Path

from mini_bert.atomic_files import replace_file
from mini_bert.foreign_files import LARGEST_JSON, parse_json, read_regular_file

FILE_NAME = "trackers.json"

Identity = dict[str, str]


def kept(run: Path, tracker: str) -> Identity:
    """What `keep` was told of a tracker; empty where nothing was, or the file is no longer readable."""
    return _read(run).get(tracker, {})


def keep(run: Path, tracker: str, identity: Identity) -> None:
    """Remember a tracker's names of this run.

    Raises:
        StorageError: the file cannot be written.
    """
    content = {**_read(run), tracker: identity}
    replace_file(run / FILE_NAME, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())


def _read(run: Path) -> dict[str, Identity]:
    try:
        content = parse_json(read_regular_file(run / FILE_NAME, LARGEST_JSON))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {
        str(name): {str(key): value for key, value in identity.items() if isinstance(value, str)}
        for name, identity in content.items()
        if isinstance(identity, dict)
    }
