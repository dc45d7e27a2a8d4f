"""The page of the zoo, `docs/bug-zoo.md`, from the bugs and from what `hunt` measured."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from mini_bert.verification.bugs import BUGS, FAMILIES
from mini_bert.verification.bugs.bug import Bug
from mini_bert.verification.bugs.training_run import RESUMED_AT, STEPS

_THREADS = re.compile(r"([\w.-]+/[\w.-]+) (#\d+)((?:(?:, | and )#\d+)*)")
_GRADIENT, _DEFINITION = "gradient", "definition"


def write(results: Mapping[str, Any]) -> str:
    """The whole page."""
    measured = results["bugs"]
    lines = [*_beginning(results), "", *_table(measured)]
    for family in FAMILIES:
        bugs = [bug for bug in BUGS.values() if bug.family == family.FAMILY]
        if bugs:
            lines += ["", f"## {family.FAMILY}"]
            for bug in bugs:
                lines += ["", *_bug(bug, measured.get(bug.name))]
    return "\n".join(lines) + "\n"


def number_caught(results: Mapping[str, Any]) -> int:
    """How many bugs have a test that fails with them, and passes without."""
    return sum(record["caught"] and record["passes_without"] for record in results["bugs"].values())


def loss_verdicts(results: Mapping[str, Any]) -> Counter[str]:
    """How many bugs the loss shows: `clearly`, `not`, or not even in its last digit, the `same`."""
    return Counter(_loss_verdict(record) for record in results["bugs"].values())


def linked(text: str) -> str:
    """`owner/repository #12` as a link to the thread, and every further number behind it as well.

    >>> linked("karpathy/micrograd #2 and #54")
    '[karpathy/micrograd #2](https://github.com/karpathy/micrograd/issues/2) and [#54](https://github.com/karpathy/micrograd/issues/54)'
    """

    def link(found: re.Match[str]) -> str:
        repository, first, others = found.groups()
        address = f"https://github.com/{repository}/issues/"
        further = re.sub(r"#(\d+)", lambda number: f"[{number[0]}]({address}{number[1]})", others)
        return f"[{repository} {first}]({address}{first[1:]}){further}"

    return _THREADS.sub(link, text)


def _beginning(results: Mapping[str, Any]) -> Iterator[str]:
    measured, without = results["bugs"], results["without"]
    kinds, caught = loss_verdicts(results), number_caught(results)
    seeds = " ".join(f"{loss:.2f}" for loss in without["held_out_of_seeds"])
    environment = results["environment"]
    yield "# The bug zoo"
    yield ""
    yield "<!-- Written by `make zoo`; change the bugs in mini_bert/verification/bugs/, not this page. -->"
    yield ""
    yield (
        f"{len(measured)} real bugs of transformer code, each a small change of this repository's own source, and each "
        f"met in public code, or common where one writes such code by hand. {caught} of {len(measured)} are caught by "
        f"a test that names the place; the change, what it does, and the test stand below."
    )
    yield ""
    yield (
        f"Does the loss show it? For {kinds['clearly']} of them, clearly. **For {kinds['not']} the loss is as good as "
        f"without the bug**, and for {kinds['same']} the training is the same to the last digit. That is why a falling "
        f"loss proves nothing, and why everything here is compared with something that nobody derived."
    )
    yield ""
    yield "![Held-out loss with and without each bug](results/bug-zoo.svg)"
    yield ""
    yield (
        f"Measured with and without each bug: the gradients of every operation and of every parameter beside the "
        f"complex step, the results beside loops that transcribe the definitions, and a small real training (two "
        f"blocks, H = 32, V = 512, dropout 0.1, {STEPS} steps on Python's own help texts, resumed once at step "
        f"{RESUMED_AT}). Held-out loss without a bug, at {len(without['held_out_of_seeds'])} seeds: {seeds}; what lies "
        f"within three standard deviations ({3 * without['noise']:.2f}) of it counts as “as good as without”. "
        f"Python {environment['python']}, NumPy {environment['numpy']}, {environment['date']}."
    )
    yield ""
    yield (
        "`mini-bert bugs list` names them, `mini-bert bugs show NAME` shows one, `mini-bert bugs run NAME` injects it, "
        "trains with and without it and lets the tests find it. Nothing on the disk changes: an import hook hands the "
        "changed source to the compiler."
    )


def _table(measured: Mapping[str, Any]) -> Iterator[str]:
    yield "| bug | loss | gradients | results | killed by |"
    yield "| --- | :---: | :---: | :---: | ---: |"
    for name, record in measured.items():
        loss = {"clearly": "**shows it**", "not": "as good", "same": "the same"}[_loss_verdict(record)]
        seen = record["seen"]
        gradients = "**off**" if seen["gradients"].startswith("gradient of") else "right"
        results = "right" if not seen["results"] or seen["results"].endswith("right") else "**off**"
        if loss == "**shows it**" and not seen["gradients"]:
            gradients = results = "—"
        number = f"{record['killing_tests']}" + ("" if record["all_tests_run"] else "+")
        yield f"| [{name}](#{name}) | {loss} | {gradients} | {results} | {number} |"


def _bug(bug: Bug, record: Mapping[str, Any] | None) -> Iterator[str]:
    yield f"### {bug.name}"
    yield ""
    yield f"**{bug.title}.**"
    yield ""
    yield "```diff"
    yield from (line for line in bug.difference(1).splitlines() if not line.startswith("--- "))
    yield "```"
    yield ""
    yield linked(bug.lesson)
    yield ""
    yield f"- **Seen:** {linked(bug.seen)}"
    if record is not None:
        yield f"- **Measured:** {_escaped(record['symptom'])}"
        number, others = record["killing_tests"], record["killing_tests"] - 1
        also = f", and by {others} more of {number + record['passing_tests']} in `{record['folder']}`" if others else ""
        yield f"- **Caught by:** `{bug.caught_by}`{also}."


def _loss_verdict(record: Mapping[str, Any]) -> str:
    loss = record["seen"]["loss"]
    if loss.startswith("training is the same to the last digit") and "," not in loss:
        return "same"
    return "not" if loss.startswith("loss as good as without") and "resumed" not in loss else "clearly"


def _escaped(text: str) -> str:
    return re.sub(r"([*_<>|\[\]])", r"\\\1", text)
