"""Does a test fail with this mutant? pytest in a process of its own, forked from one that has NumPy and pytest loaded.

A child of a warm process starts in milliseconds and shares nothing with the next one. The limits are on processor time,
so that a busy machine kills no mutant. What tests draw at random is drawn from their names: the same in every run.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from mini_bert.errors import InvalidInputError, MissingExtraError
from mini_bert.verification.injection import inject

DEFAULT_MARKS = "not (reference or data or slow or nightly)"
_OPTIONS = (
    "-x", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=no", "-m", DEFAULT_MARKS,
    "-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning",  # hypothesis is, on purpose
)  # fmt: skip
_WARM = ("numpy", "numpy.testing", "pytest", "hypothesis.strategies", "pydantic", "safetensors.numpy", "yaml", "rich")
_MEMORY = 8 * 2**30
"""Bytes of address space that a trial may ask for: a mutated size must not take the machine down."""


class Limits(NamedTuple):
    """How long a trial may take before it counts as one that never ends."""

    cpu_seconds: float
    wall_seconds: float


class Outcome(NamedTuple):
    """What became of a trial."""

    passed: bool
    how: str
    """`passed`, `test`, `import`, `timeout` or `crash`."""
    by: str
    """The test that failed, or what happened instead."""
    cpu_seconds: float
    wall_seconds: float


def warm() -> None:
    """Load what every trial needs and no mutant touches.

    Raises:
        InvalidInputError: this system has no fork.
        MissingExtraError: pytest or hypothesis is not installed.
    """
    if not hasattr(os, "fork"):
        raise InvalidInputError("system", got=sys.platform, expected="one that can fork: Linux or macOS")
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # trials share the cores, not each of them all
    for name in _WARM:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise MissingExtraError(
                name, got="not installed", expected="the tests' packages", advice="pip install 'mini-bert[test]'"
            ) from error
    from hypothesis import HealthCheck, Phase, settings

    settings.register_profile(
        "mutants",
        database=None,
        derandomize=True,
        deadline=None,
        phases=(Phase.explicit, Phase.generate),  # the first failure is enough, nobody reads the smallest one
        suppress_health_check=list(HealthCheck),
    )
    settings.load_profile("mutants")
    gc.freeze()


class Trial:
    """One run of tests in a forked process, with some files of the package replaced."""

    def __init__(
        self, root: Path, package: str, sources: Mapping[str, str], tests: tuple[str, ...], limits: Limits
    ) -> None:
        """Fork and start; `outcome` asks how it went."""
        self._limits = limits
        self._began = time.monotonic()
        self._folder = Path(tempfile.mkdtemp(prefix="mutant-"))
        self._result = self._folder / "result.json"
        sys.stdout.flush()
        sys.stderr.flush()
        self._pid = os.fork()
        if self._pid == 0:
            os.environ["PYTEST_DEBUG_TEMPROOT"] = str(self._folder)  # pytest tidies up in it, not under other trials
            _run_in_child(root, package, sources, tests, limits, self._result)

    def outcome(self) -> Outcome | None:
        """How it went; None while it runs."""
        wall = time.monotonic() - self._began
        late = wall > self._limits.wall_seconds
        if late:
            self._kill()
        pid, status, usage = os.wait4(self._pid, 0 if late else os.WNOHANG)
        if pid == 0:
            return None
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # what it started and left behind
        text = self._result.read_text(encoding="utf-8") if self._result.exists() else ""
        shutil.rmtree(self._folder, ignore_errors=True)
        cpu = usage.ru_utime + usage.ru_stime
        if late or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
            return Outcome(False, "timeout", "never ends", cpu, wall)
        if os.WIFSIGNALED(status) or not text:
            number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            return Outcome(False, "crash", signal.Signals(number).name if number else "no result", cpu, wall)
        report = json.loads(text)
        return Outcome(report["how"] == "passed", report["how"], report["by"], cpu, wall)

    def stop(self) -> None:
        """End it with everything that it started; its outcome is lost."""
        self._kill()
        os.waitpid(self._pid, 0)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _kill(self) -> None:
        try:
            os.killpg(self._pid, signal.SIGKILL)
        except ProcessLookupError:  # not yet a group of its own, or gone
            os.kill(self._pid, signal.SIGKILL)


def _run_in_child(
    root: Path, package: str, sources: Mapping[str, str], tests: tuple[str, ...], limits: Limits, result: Path
) -> None:
    import resource

    status = 1
    try:
        os.setsid()
        with Path(os.devnull).open("r+b") as nowhere:
            for stream in (0, 1, 2):
                os.dup2(nowhere.fileno(), stream)
        seconds = int(limits.cpu_seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if sys.platform == "linux":
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        os.chdir(root)
        sys.path.insert(0, str(root))
        inject(sources, package)
        how, by = _run_tests(tests)
        result.write_text(json.dumps({"how": how, "by": by}), encoding="utf-8")
        status = 0
    except BaseException:
        result.write_text(json.dumps({"how": "crash", "by": traceback.format_exc(limit=1)}), encoding="utf-8")
    finally:
        os._exit(status)


def _run_tests(tests: tuple[str, ...]) -> tuple[str, str]:
    import pytest

    failures = _Failures()
    code = int(pytest.main([*_OPTIONS, *tests], plugins=[failures]))
    if code == pytest.ExitCode.OK:
        return "passed", ""
    if failures.test:
        return "test", failures.test
    return "import", failures.collection or f"pytest ended with code {code}"


class _Failures:
    """Remembers the first test that fails, and the first file that cannot be imported."""

    def __init__(self) -> None:
        self.test = ""
        self.collection = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.test:
            self.test = report.nodeid

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed and not self.collection:
            self.collection = report.nodeid
