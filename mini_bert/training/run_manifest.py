"""What would one need to repeat a run? `manifest.json`: command line, configuration, data, versions, machine, git.

    format_version, run, parent, config, config_sha256, data_sha256, tokenizer_sha256
    starts   one entry a start: when, where, with what, from which step, and how it ended ("end"; null if nobody said)

The newest start describes the run; older ones tell how it came about. Environment variables are recorded only if they
set up Mini-BERT, BLAS or OpenMP, and of git only commit, branch and whether tracked files were changed: no secrets.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from mini_bert.atomic_files import replace_file
from mini_bert.config.schema import Config
from mini_bert.config.wording import shown
from mini_bert.errors import DataError, StorageError
from mini_bert.foreign_files import LARGEST_JSON, parse_json, read_regular_file
from mini_bert.machine import available_cores
from mini_bert.training.run_log import utc_now

FILE_NAME = "manifest.json"
FORMAT_VERSION = 1

_PACKAGES = ("numpy", "safetensors", "pydantic", "pyyaml", "rich", "tyro", "threadpoolctl", "pooch")
_VARIABLES = ("MINI_BERT", "OPENBLAS_", "GOTO_", "MKL_", "BLIS_", "VECLIB_", "OMP_", "GOMP_", "KMP_")
"""How the names of recorded environment variables begin."""


def begin(
    run: Path, config: Config, facts: Mapping[str, Any], *, first_step: int, threads: int, ranks: int = 1
) -> list[str]:
    """Describe a start in the run's manifest; call it while holding the run's lock.

    Args:
        run: the run's folder, which exists.
        config: with everything resolved.
        facts: of config, data, tokenizer and machine, as the manifests of checkpoints have them.
        first_step: steps done before.
        threads: worker threads of each rank.
        ranks: processes of the job.

    Returns:
        What could not be done, in sentences; a manifest never stops a training. One that is damaged or foreign is
        kept beside the new one as `manifest.damaged-<n>.json`.
    """
    warnings: list[str] = []
    earlier: list[Any] = []
    try:
        found = read(run)
        earlier = found["starts"] if found else []
    except DataError as error:
        names = (run / f"manifest.damaged-{number}.json" for number in itertools.count(1))
        aside = next(name for name in names if not name.exists())
        try:
            (run / FILE_NAME).rename(aside)
        except OSError as failure:
            return [f"{error} It was left as it is ({failure.strerror}), and this start is not recorded."]
        warnings.append(f"{error} It was set aside as {aside.name}.")
    facts = dict(facts)
    start = {
        "time": utc_now(),
        "first_step": first_step,
        "threads": threads,
        "ranks": ranks,
        "command": _command(),
        "directory": str(Path.cwd()),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "cores": available_cores(),
        "environment": facts.pop("environment", {}),
        "platform": platform.platform(),
        "packages": _versions(),
        "variables": {name: value for name, value in sorted(os.environ.items()) if name.upper().startswith(_VARIABLES)},
        "git": git_state(Path.cwd()),
        "config_sha256": facts.get("config_sha256"),
        "end": None,
    }
    manifest = {"format_version": FORMAT_VERSION, **facts, "config": config.to_dict(), "starts": [*earlier, start]}
    return warnings + _write(run, manifest)


def end(run: Path, *, step: int, sha256: str | None, seconds: float, ended: str) -> list[str]:
    """Note how the newest start ended; returns what could not be done, in sentences.

    Args:
        run: the run's folder.
        step: steps done.
        sha256: of parameters and moments, as they are saved; None where nothing was saved.
        seconds: since the start.
        ended: `finished`, `early stop`, the name of a signal, or `failed: ` and why.
    """
    try:
        manifest = read(run)
    except DataError as error:
        return [str(error)]
    if manifest is None or not manifest["starts"]:
        return [f"{run / FILE_NAME} is gone; how the run ended is not recorded there."]
    manifest["starts"][-1]["end"] = {
        "time": utc_now(),
        "step": step,
        "sha256": sha256,
        "seconds": round(seconds, 3),
        "ended": ended,
    }
    return _write(run, manifest)


def read(run: Path) -> dict[str, Any] | None:
    """The manifest of a run; None where there is none, as in runs of older versions.

    Raises:
        DataError: it cannot be read, is damaged, of something else, or of a newer format.
    """
    path = run / FILE_NAME
    try:
        content = read_regular_file(path, LARGEST_JSON)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(str(path), got=error.strerror, expected="the manifest of a run") from error
    try:
        manifest = parse_json(content)
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict) or not _is_ours(manifest):
        raise DataError(str(path), got="something else", expected="the manifest of a run")
    if manifest["format_version"] > FORMAT_VERSION:
        raise DataError(
            str(path),
            got=f"format version {shown(manifest['format_version'])}",
            expected=f"at most {FORMAT_VERSION}",
            advice="A newer Mini-BERT wrote it: upgrade.",
        )
    return manifest


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit, branch (None when detached) and whether tracked files differ from it; None where there is no git."""
    try:
        done = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", "status", "--porcelain=v2", "--branch", "--untracked-files=no"],
            cwd=folder,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
            capture_output=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    heads = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# ") and line.count(" ") > 1)
    commit, branch = heads.get("branch.oid"), heads.get("branch.head")
    return {
        "commit": None if commit == "(initial)" else commit,
        "branch": None if branch == "(detached)" else branch,
        "dirty": any(line and not line.startswith("#") for line in lines),
    }


def _is_ours(manifest: Mapping[str, Any]) -> bool:
    starts, config = manifest.get("starts"), manifest.get("config")
    if type(manifest.get("format_version")) is not int or not isinstance(config, dict) or not isinstance(starts, list):
        return False
    return all(isinstance(start, dict) and isinstance(start.get("end"), (dict, type(None))) for start in starts)


def _write(run: Path, manifest: Mapping[str, Any]) -> list[str]:
    try:
        replace_file(run / FILE_NAME, (json.dumps(manifest, indent=1, default=str) + "\n").encode())
    except (StorageError, ValueError) as error:
        return [str(error)]
    return []


def _command() -> list[str]:
    """The words to type."""
    program, *words = sys.argv or [""]
    if Path(program).name == "mini-bert":
        return ["mini-bert", *words]
    return list(sys.orig_argv)


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
