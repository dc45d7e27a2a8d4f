"""What was measured of a model once, and need not be again.

    <cache>/assessments/<sha256 of the model>/<sha256 of the measurement>.json

A measurement is known by its name, its version, and the settings that it hangs on. What cannot be read is measured
again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mini_bert.atomic_files import replace_file
from mini_bert.data.cache import json_sha256
from mini_bert.data.sources import cache_home

FOLDER = "assessments"


class KeptResults:
    """The results of one model.

    Args:
        model: its sha256.
    """

    def __init__(self, model: str) -> None:
        self._folder = cache_home() / FOLDER / model[:32]

    def read(self, measurement: Mapping[str, Any]) -> dict[str, Any] | None:
        """The result of a measurement, if it is there."""
        try:
            kept = json.loads(self._path(measurement).read_bytes())
        except (OSError, ValueError):
            return None
        same = isinstance(kept, dict) and kept.get("measurement") == measurement
        return kept["result"] if same else None

    def keep(self, measurement: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Keep a result.

        Raises:
            StorageError: it cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        contents = {"measurement": measurement, "result": result}
        replace_file(self._path(measurement), (json.dumps(contents, indent=1, ensure_ascii=False) + "\n").encode())

    def _path(self, measurement: Mapping[str, Any]) -> Path:
        return self._folder / f"{measurement['part']}-{json_sha256(measurement)[:16]}.json"
