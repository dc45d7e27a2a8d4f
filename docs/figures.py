"""Measured figures in prose: `python docs/figures.py` writes them anew from the result files in `docs/results/`.

A page holds a block between `<!-- figures: NAME -->` and `<!-- end -->`; what stands in it is made here, and a test
checks that it is what the result files say. `--check` only compares, and exits 1 where a page is behind.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mini_bert.benchmarks import activation_checkpointing
from mini_bert.benchmarks import tables as benchmark_tables
from mini_bert.benchmarks.race import tables as race_tables
from mini_bert.benchmarks.race.result import RaceResult
from mini_bert.benchmarks.result import BenchmarkResult
from mini_bert.config import reference as settings_reference
from mini_bert.reports import initial_signal, numerics, pages
from mini_bert.reports.assessment import assessment_table, history_table, quick_notes, seeds_table
from mini_bert.reports.history_picture import history_picture
from mini_bert.reports.progression import progression_of, progression_table
from mini_bert.reports.study import clock_table, study_block
from mini_bert.reports.study_picture import study_picture
from mini_bert.reports.table import Table
from mini_bert.reports.waking import waking_picture, waking_table
from mini_bert.studies.reading import study_names
from mini_bert.verification import certificate_page
from mini_bert.verification.bugs import page as zoo
from mini_bert.verification.certificate import Certificate
from mini_bert.verification.reliability import page as broken
from mini_bert.verification.reliability import record, sample_order

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
NOT_RUN = "(not run yet)\n"
"""Stands in a block whose result file is not there."""
WAKING = {
    "waking_table": "table of positions",
    "waking_rotary": "rotary",
    "waking_t5_faster": "T5's bias, 30 times its rate",
}
"""Result files of trainings whose attention is watched, and what they are called."""
LEARNT = ("masked_lm.loss", "masked_lm.top1", "pos", "blimp", "linzen.easiest", "linzen.harder", "sst2")
"""Headlines in the README."""
_BLOCK = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def training_table(result: BenchmarkResult) -> Table:
    """Speed and memory of a training step, ours and the others'."""
    rows = []
    strong = []
    for entry in result.training.finished():
        if entry.name in benchmark_tables.PRODUCTS:
            continue
        ratio = "" if entry.name == "ours" else f"{result.training.speed_up('ours', entry.name).median:.2f}"
        strong += [len(rows)] if entry.name == "ours" else []
        speed = result.tokens_per_second(entry).median
        rows.append((entry.title, f"{speed:,.0f}", ratio, f"{entry.peak_bytes / 1e6:,.0f}"))
    machine = result.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return Table(
        f"Training step, {result.rows} x {result.tokens} tokens, {result.masked:.0f} masked",
        ("float32 unless said otherwise", "tokens/s", "ours is … times as fast", "peak memory, MB"),
        tuple(rows),
        (
            f"{machine.processor}, {machine.threads} threads, {machine.blas}; {versions}; {machine.date}.",
            "The last three are PyTorch with what it does not do by itself: our last-block saving, a fast matrix "
            "kernel that it does not choose on this processor, and both.",
        ),
        strong=tuple(strong),
    )


def inference_table(result: BenchmarkResult) -> Table:
    """fill-mask of one sentence."""
    rows = tuple(
        (
            entry.title,
            f"{1e3 * entry.quartiles.median:.2f}",
            "" if entry.name == "ours" else f"{result.inference.speed_up('ours', entry.name).median:.2f}",
        )
        for entry in result.inference.finished()
    )
    return Table(
        "fill-mask of one 16-token sentence in a loaded process, tokenising and top-k included",
        ("", "ms", "ours is … times as fast"),
        rows,
    )


def _sentences(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines) + "\n"


def _tables(name: str) -> list[Table]:
    return pages.tables(pages.read_result(RESULTS / f"{name}.json"))


def _markdown(tables: Iterable[Table]) -> str:
    return "\n".join(table.markdown() for table in tables)


def _benchmark() -> BenchmarkResult:
    return BenchmarkResult.read(RESULTS / "benchmark.json")


def speed() -> str:
    """The training contest in the README."""
    result = _benchmark()
    return training_table(result).markdown() + "\n" + _sentences(benchmark_tables.summary(result))


def benchmark() -> str:
    """Everything that was measured about speed."""
    return "```text\n" + benchmark_tables.plain_text(_benchmark()) + "```\n"


def demo() -> str:
    """What `make demo` reached, in the README."""
    return _tables("demo")[0].markdown()


def lab(part: str) -> str:
    """A part of the numerics lab."""
    return numerics.numerics_block(pages.read_result(RESULTS / "numerics.json"), part)


def learned(name: str) -> str:
    """All tables of one run."""
    return _markdown(_tables(name))


def proof() -> str:
    """Certificate, bug zoo and mutation score, in the README."""
    certificate = Certificate.from_json((RESULTS / "certificate.json").read_bytes())
    bugs = json.loads((RESULTS / "bug-zoo.json").read_bytes())
    mutants = json.loads((RESULTS / "mutants.json").read_bytes())
    number, by_loss = len(bugs["bugs"]), zoo.loss_verdicts(bugs)
    lines = [
        f"[Certificate](docs/certificate.md): {certificate.verdict}.",
        f"[Bug zoo](docs/bug-zoo.md): {number} bugs that people really wrote, {zoo.number_caught(bugs)} of them caught "
        f"by a test that names the place. The loss clearly shows {by_loss['clearly']}; with the other "
        f"{number - by_loss['clearly']} it falls as well as without.",
        f"[Mutants](docs/mutants.md): {mutants['killed']} of {mutants['tried']} mechanical mutants killed, "
        f"{100 * mutants['killed'] / mutants['tried']:.1f} %.",
    ]
    return certificate_page.summary(certificate).markdown() + "\n" + _sentences(lines)


def reliability() -> str:
    """How often the promises held, in the README."""
    result = record.read(RESULTS / "reliability.json")
    return f"[{broken.summary(result)}](docs/reliability.md).\n"


def tried(promise: str) -> str:
    """The experiments on one promise, in the guide."""
    return broken.table_of(record.read(RESULTS / "reliability.json"), promise)


def order() -> str:
    """How random the order of rows is, in the guide on data."""
    records = record.read(RESULTS / "reliability.json")["experiments"]
    measured = next((entry["measured"]["table"] for entry in records if "table" in entry["measured"]), None)
    return sample_order.table(measured).markdown() if measured is not None else "(not measured yet)\n"


def signal() -> str:
    """How large the numbers of a fresh network are, in the guide on first values."""
    signals = initial_signal.read(RESULTS / "initial_signal.json")
    return _markdown(initial_signal.table(signals, placement) for placement in ("post", "pre"))


def computed_again() -> str:
    """Activation checkpointing over depth, in the guide on memory."""
    result = json.loads((RESULTS / "activation_checkpointing.json").read_bytes())
    return activation_checkpointing.table(result).markdown()


def reference_curve() -> str:
    """What the reference run knew after more and more steps."""
    path = RESULTS / "reference_curve.json"
    if not path.exists():
        return NOT_RUN
    result = pages.read_result(path)
    picture = "![What it knew after so many steps](reference_curve.svg)\n"
    hoped = progression_table(progression_of(result), quick_notes(result["assessments"]))
    return "\n".join([picture, _markdown([hoped, history_table(result)])])


def reference_seeds() -> str:
    """The beginning of the reference run with several seeds."""
    found = sorted(RESULTS.glob("reference_seed_*.json"))
    return seeds_table([pages.read_result(path) for path in found]).markdown() if found else NOT_RUN


def reference(whole: bool) -> str:
    """What the reference model has learnt: the one table, and where asked each part's own."""
    path = RESULTS / "reference.json"
    if not path.exists():
        return NOT_RUN
    headline, *parts = pages.assessment_tables(pages.read_result(path) | {"whole": True})
    return _markdown(parts if whole else [headline])


def reference_aside(what: str, numbers: slice) -> str:
    """Some tables of one more measurement of the reference model."""
    path = RESULTS / f"reference_{what}.json"
    return _markdown(_tables(path.stem)[numbers]) if path.exists() else NOT_RUN


def learnt() -> str:
    """The figures of the reference model that everybody asks for first, in the README."""
    path = RESULTS / "reference.json"
    return assessment_table(pages.read_result(path), LEARNT).markdown() if path.exists() else NOT_RUN


def waking() -> str:
    """When attention wakes up."""
    histories = _waking()
    return waking_table(histories).markdown() if histories else NOT_RUN


def _waking() -> dict[str, Mapping[str, Any]]:
    paths = {label: RESULTS / f"{name}.json" for name, label in WAKING.items()}
    return {label: pages.read_result(path) for label, path in paths.items() if path.exists()}


def race() -> str:
    """Time to a held-out loss beside transformers."""
    path = RESULTS / "race.json"
    return race_tables.table(RaceResult.read(path)).markdown() if path.exists() else NOT_RUN


def studied(name: str) -> str:
    """All tables of one study."""
    path = RESULTS / "studies" / f"{name}.json"
    return study_block(pages.read_result(path)) if path.exists() else NOT_RUN


def clocked(name: str) -> str:
    """How long a step of each piece of a study takes."""
    path = RESULTS / "studies" / f"{name}.json"
    return clock_table(pages.read_result(path)).markdown() if path.exists() else "(not measured yet)\n"


FIGURES: dict[str, Callable[[], str]] = {
    "speed": speed,
    "inference": lambda: inference_table(_benchmark()).markdown(),
    "benchmark": benchmark,
    "demo": demo,
    "settings": settings_reference.markdown,
    "proof": proof,
    "reliability": reliability,
    "order": order,
    "initial_signal": signal,
    "activation_checkpointing": computed_again,
    "race": race,
    "waking": waking,
    "learnt": learnt,
    "reference": partial(reference, False),
    "reference_parts": partial(reference, True),
    "reference_curve": reference_curve,
    "reference_seeds": reference_seeds,
    "reference_grid": partial(reference_aside, "grid", slice(2)),
    "reference_forgetting": partial(reference_aside, "forgetting", slice(1)),
    "reference_transfer": partial(reference_aside, "transfer", slice(1)),
    **{f"study_{name}": partial(studied, name) for name in study_names()},
    **{f"clock_{name}": partial(clocked, name) for name in study_names()},
    "demo_run": lambda: learned("demo"),
    "hour_run": lambda: learned("hour"),
    **{f"tried_{promise}": partial(tried, promise) for promise in broken.PROMISES},
    **{f"numerics_{part}": partial(lab, part) for part in ("findings", *numerics.PARTS)},
}
"""Name of a block → the function that writes it."""


def prose() -> Iterator[Path]:
    """The README, all pages of the documentation, and the cards of the models that come along."""
    yield ROOT / "README.md"
    yield from sorted((ROOT / "mini_bert" / "shipped").glob("*/README.md"))
    yield from sorted((ROOT / "docs").rglob("*.md"))


def written_anew(text: str) -> str:
    """`text` with every block as the result files say."""
    return _BLOCK.sub(lambda match: f"{match[1]}{FIGURES[match[2]]()}{match[3]}", text)


def draw_pictures() -> None:
    """Of each study that has been run, of attention that wakes up, and of what the reference run knew after so many
    steps, beside the results; needs the extra `plots`.
    """
    if histories := _waking():
        waking_picture(histories, RESULTS / "waking.svg")
    if (curve := RESULTS / "reference_curve.json").exists():
        history_picture(pages.read_result(curve), RESULTS / "reference_curve.svg")
    for name in study_names():
        path = RESULTS / "studies" / f"{name}.json"
        result = pages.read_result(path) if path.exists() else {"trials": []}
        if result["trials"]:
            study_picture(result, path.with_suffix(".svg"))


def main() -> int:
    """Write the pages, or with `--check` name those that are behind."""
    behind = []
    for path in prose():
        text = path.read_text(encoding="utf-8")
        if (anew := written_anew(text)) != text:
            behind.append(str(path.relative_to(ROOT)))
            if "--check" not in sys.argv:
                path.write_text(anew, encoding="utf-8")
    if "--check" not in sys.argv and find_spec("matplotlib") is not None:
        draw_pictures()
    if behind:
        print(("behind: " if "--check" in sys.argv else "written: ") + ", ".join(behind))
    return int(bool(behind) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
