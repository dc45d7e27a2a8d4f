"""Is it right? Gradients beside derivatives that nobody derived, results beside loops that transcribe definitions.

`check_op` puts an operation of your own before the same oracles; `mini-bert verify` puts all of ours before them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mini_bert.verification.certificate import Certificate, certify
    from mini_bert.verification.own_operation import check_op
    from mini_bert.verification.verdict import Finding, Verdict

_HOME = {
    "Certificate": "certificate",
    "Finding": "verdict",
    "Verdict": "verdict",
    "certify": "certificate",
    "check_op": "own_operation",
}

__all__ = ["Certificate", "Finding", "Verdict", "certify", "check_op"]


def __getattr__(name: str) -> Any:
    """Imported when asked for: whoever injects a bug has to do so before the code under test is loaded."""
    if name not in _HOME:
        raise AttributeError(f"module 'mini_bert.verification' has no attribute {name!r}")
    return getattr(import_module(f"mini_bert.verification.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
