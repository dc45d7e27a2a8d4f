"""`mini-bert bugs list|show|run`: the zoo of real bugs, and what they do."""

from __future__ import annotations

import shutil
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from mini_bert.cli import CHECK_FAILED, DONE
from mini_bert.cli.options import Flag
from mini_bert.cli.results import print_json, say

if TYPE_CHECKING:
    from mini_bert.verification.bugs.bug import Bug
    from mini_bert.verification.bugs.symptom import Errors

Name = Positional[Annotated[str, arg(metavar="NAME", help_behavior_hint="")]]

_ROWS = 8
"""Lines of a table of errors; the rest is a number."""


def list(*, json: Flag = False) -> int:
    """List the bug zoo: real bugs of transformer code, each a small change of this package's own source.

    Examples:
      mini-bert bugs list

    Args:
        json: as JSON, with everything that is known of each.
    """
    from mini_bert.verification.bugs import BUGS

    if json:
        print_json([_described(bug) for bug in BUGS.values()])
        return DONE
    width, family = max(map(len, BUGS)), ""
    for bug in BUGS.values():
        if bug.family != family:
            family = bug.family
            print(f"{family}:")
        print(f"  {bug.name:<{width}}  {bug.title}")
    return DONE


def show(name: Name, *, json: Flag = False) -> int:
    """Show one bug: the change, where it was seen, what it does, and which test catches it.

    Examples:
      mini-bert bugs show mask-inverted

    Args:
        name: a bug of `mini-bert bugs list`.
        json: as JSON.
    """
    from mini_bert.verification.bugs.experiment import find

    bug = find(name)
    if json:
        print_json(_described(bug))
        return DONE
    print(f"{bug.name}: {bug.title}\n")
    _print_difference(bug.difference())
    for heading, text in (("Why", bug.lesson), ("Seen", bug.seen)):
        print(f"\n{heading}\n{_wrapped(text)}")
    print(f"\nCaught by a test that names {bug.place}\n  {bug.caught_by}")
    print(f"\nTo see what it does: mini-bert bugs run {bug.name}")
    return DONE


def run(name: Name, *, json: Flag = False) -> int:
    """Train with and without a bug, side by side, check every gradient, and see what catches it. Half a minute.

    Nothing on the disk changes: processes of their own compile the changed source. Where the tests of the repository
    are at hand, the one that is said to catch the bug is run with and without it; exit code 1 if it does not.

    Examples:
      mini-bert bugs run mask-inverted
      mini-bert bugs run softmax-backward-diagonal --json

    Args:
        name: a bug of `mini-bert bugs list`.
        json: all that was measured, as JSON.
    """
    from mini_bert.verification.bugs.experiment import find, measure
    from mini_bert.verification.bugs.symptom import USUAL_NOISE, gradient_errors, result_errors, seen

    bug = find(name)
    say(f"Training and checking without and with {bug.name} …")
    with ThreadPoolExecutor(2) as pool:
        without, with_ = pool.map(measure, (None, bug.name))
    judgement = _judgement(bug)
    symptom = str(seen(without, with_, USUAL_NOISE))
    crashed = "crash" in with_
    gradients, results = ({}, {}) if crashed else (gradient_errors(with_), result_errors(with_))
    if json:
        trainings = {"without": without["training"], "with": with_.get("training")}
        errors = {"gradients": _numbers(gradients), "results": _numbers(results)}
        print_json({"bug": _described(bug), "symptom": symptom, **trainings, **errors, "test": judgement})
    else:
        print(f"{bug.name}: {bug.title}\n")
        if not crashed:
            _print_curves(without["training"], with_["training"])
            _print_errors("Gradients that are off, beside the complex step", gradients)
            _print_errors("Results that are off, beside the definition in loops", results)
        print(f"In a sentence\n{_wrapped(symptom)}\n")
        _print_judgement(bug, judgement)
    return DONE if judgement is None or judgement["caught"] else CHECK_FAILED


def _judgement(bug: Bug) -> dict[str, Any] | None:
    """How the test that is said to catch the bug ends with and without it; None where there are no tests."""
    from mini_bert.verification.bugs.injected import complaint, run_tests, tests_are_here

    if not tests_are_here():
        return None
    say(f"Running {bug.caught_by} without and with it …")
    with ThreadPoolExecutor(2) as pool:
        clean, wrong = pool.map(lambda name: run_tests(name, bug.caught_by), (None, bug.name))
    fails, passes = bug.caught_by in wrong.failed, clean.passed == 1 and not clean.failed
    return {
        "id": bug.caught_by,
        "fails_with": fails,
        "passes_without": passes,
        "caught": fails and passes,
        "said": complaint(wrong.failed.get(bug.caught_by, "")),
    }


def _print_judgement(bug: Bug, judgement: dict[str, Any] | None) -> None:
    print(f"The test\n  {bug.caught_by}")
    if judgement is None:
        print("  was not run: this package was installed without its tests. In a clone of the repository it is.")
        return
    fails, passes = (judgement[key] for key in ("fails_with", "passes_without"))
    print(f"  {'fails' if fails else 'PASSES'} with the bug and {'passes' if passes else 'FAILS'} without it.")
    if judgement["said"]:
        print(f"  It says: {judgement['said']}")


def _print_curves(without: dict[str, Any], with_: dict[str, Any]) -> None:
    from mini_bert.verification.bugs.symptom import chart

    held_out = {"·": without["held_out"], "x": [point for point in with_["held_out"] if point[1] is not None]}
    print("Loss on held-out text by step: · without the bug, x with it, x also where both are")
    curves = {mark: held_out[mark] for mark in ("x", "·") if held_out[mark]}
    for line in chart(curves, width=min(64, shutil.get_terminal_size().columns - 10)):
        print(f"  {line}")
    for label, curve in (("without", held_out["·"]), ("with", held_out["x"])):
        shown = "  ".join(f"{loss:.2f}" for _, loss in curve) or "none"
        print(f"  {label:<8} {shown}")
    if with_["stopped"]:
        print(f"  stopped  {with_['stopped']}")
    print()


def _print_errors(heading: str, errors: Errors) -> None:
    from mini_bert.verification.bugs.symptom import percent

    print(heading)
    for name, error in [*errors.items()][:_ROWS]:
        print(f"  {name:<24} {error if isinstance(error, str) else _bar(error)}")
    if len(errors) > _ROWS:
        least = [error for error in errors.values() if isinstance(error, float)][-1]
        print(f"  and {len(errors) - _ROWS} more, down to {percent(least)}")
    print("" if errors else "  none\n")


def _bar(error: float) -> str:
    from mini_bert.verification.bugs.symptom import percent

    if error == float("inf"):
        return "not a number"
    return f"{percent(error):>7}  {'█' * round(20 * min(error, 1.0))}"


def _print_difference(difference: str) -> None:
    """Coloured on a terminal, as it is elsewhere."""
    if not sys.stdout.isatty():
        print(difference, end="")
        return
    from rich.console import Console
    from rich.text import Text

    styles = {"+": "green", "-": "red", "@": "cyan"}
    lines = [
        Text(line, "bold" if line.startswith(("+++", "---")) else styles.get(line[:1], ""))
        for line in difference.splitlines()
    ]
    Console(highlight=False).print(Text("\n").join(lines), soft_wrap=True)


def _described(bug: Bug) -> dict[str, str]:
    fields = {key: value for key, value in bug._asdict().items() if isinstance(value, str)}
    return {**fields, "difference": bug.difference()}


def _numbers(errors: Errors) -> dict[str, Any]:
    """JSON has no infinity: None stands for what is no number."""
    return {name: None if error == float("inf") else error for name, error in errors.items()}


def _wrapped(text: str) -> str:
    width = min(100, shutil.get_terminal_size().columns - 2)
    return textwrap.fill(text, width, initial_indent="  ", subsequent_indent="  ")
