"""`mini-bert verify`: is every gradient right, by every oracle that is here?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from tyro.conf import UseAppendAction

from mini_bert.cli import CHECK_FAILED, DONE
from mini_bert.cli.options import Flag, option

if TYPE_CHECKING:
    from mini_bert.verification.certificate import Certificate
    from mini_bert.verification.evidence import Evidence

Names = UseAppendAction[tuple[tuple[str, ...], ...]]


def verify(
    *,
    op: Annotated[Names, option("only these operations, such as layer_norm", "NAME…")] = (),
    model: Annotated[str | None, option("only this model: a run, a checkpoint, a Hugging Face folder", "RUN")] = None,
    quick: Flag = False,
    out: Annotated[str | None, option("folder for certificate.md and certificate.json", "FOLDER")] = None,
    json: Flag = False,
) -> int:
    """Prove every gradient against independent oracles, operation by operation and tensor by tensor.

    Complex step, central differences in float64, slow loops that differentiate themselves, PyTorch where it is
    installed, float32 beside float64, and theorems that right gradients fulfil. Takes a few minutes; exit code 1 if
    anything fails.

    Examples:
      mini-bert verify --quick
      mini-bert verify --op layer_norm --op softmax
      mini-bert verify --model demo
      mini-bert verify --out docs

    Args:
        quick: fewer entries, shorter rows, fewer conditions: seconds.
        json: every single check as JSON.
    """
    from mini_bert.cli.verification_display import print_certificate, verification_display
    from mini_bert.model.bert import MiniBERT
    from mini_bert.verification.certificate import certificate_of, certify

    ops = tuple(name for names in op for name in names)
    own = None
    if model is not None:
        from mini_bert.cli.models import find_model

        own = MiniBERT.from_pretrained(find_model(model), dtype="float64")
    evidence = certify(ops=ops or None, model=own, quick=quick)
    if out is not None:
        _require_folder(out)
    with verification_display(json=json) as show:

        def shown() -> Iterator[Evidence]:
            for row in evidence:
                show(row)
                yield row

        certificate = certificate_of(
            shown(), scope=_scope(ops, model, quick), command=_command(ops, model, quick, out), model=own
        )
    _write(certificate, out)
    print_certificate(certificate, json=json)
    return DONE if certificate.passed else CHECK_FAILED


def _require_folder(out: str) -> None:
    """A folder that cannot be made is found now, not after minutes."""
    from pathlib import Path

    from mini_bert.atomic_files import storage_errors

    with storage_errors(Path(out)):
        Path(out).mkdir(parents=True, exist_ok=True)


def _write(certificate: Certificate, out: str | None) -> None:
    if out is not None:
        for path in certificate.write(out):
            print(f"written: {path}", file=sys.stderr)


def _scope(ops: tuple[str, ...], model: str | None, quick: bool) -> str:
    """What is looked at, in words."""
    parts = [f"operations {', '.join(ops)}"] * bool(ops) + [f"the model {model}"] * (model is not None)
    return " and ".join(parts or ["all operations, the default model and a small one"]) + ", quick" * quick


def _command(ops: tuple[str, ...], model: str | None, quick: bool, out: str | None) -> str:
    """What makes it again."""
    words = ["mini-bert", "verify", *(word for name in ops for word in ("--op", name))]
    words += ["--model", model] if model is not None else []
    words += ["--quick"] if quick else []
    return " ".join([*words, "--out", out] if out is not None else words)
