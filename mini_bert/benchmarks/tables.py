"""A benchmark result as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mini_bert.benchmarks.result import BenchmarkResult, Contest, Entry, Quartiles

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

PRODUCTS = ("sgemm", "sgemm-avx2")
"""Entries of the training contest that measure a rate, and train nothing."""
BUSY = 0.5
"""Load average before the start above which figures are not to be quoted."""


def render(result: BenchmarkResult) -> Group:
    """Everything that was measured, for `rich.console.Console.print`."""
    from rich.console import Group
    from rich.text import Text

    return Group(
        Text(_headline(result) + "\n"),
        _training_table(result),
        *(Text(line) for line in [*summary(result), *_failures(result.training), ""]),
        _inference_table(result),
        *(Text(line) for line in _failures(result.inference)),
        _scaling_table(result),
        _gradient_table(result.embedding_gradient),
        _cold_start_table(result),
    )


def plain_text(result: BenchmarkResult) -> str:
    """The same, as text of at most 150 columns."""
    import io

    from rich.console import Console

    console = Console(width=150, file=io.StringIO(), color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(render(result))
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def summary(result: BenchmarkResult) -> list[str]:
    """What it comes to, one sentence a line; ratios are medians over the rounds."""
    training, floor = result.training, result.floor
    ours = training.entry("ours")
    if not ours.seconds:
        return [f"Mini-BERT was not measured: {ours.failure}"]
    rate = Quartiles.of(floor.gflop_per_second).median
    lines = [
        f"Floor: {floor.gflop:.1f} GFLOP a step ({floor.gflop_all_rows:.1f} without the last-block saving) at "
        f"{rate:.0f} GFLOP/s take {1e3 * floor.seconds.median:.0f} ms; our step reaches "
        f"{100 * result.share_of_floor(ours):.0f} % of that."
    ]
    if result.machine.load_before > BUSY:
        lines.insert(
            0,
            "Other programs were running: do not quote these figures. PyTorch's threads wait for each other "
            "after every operation, and suffer more from company than ours.",
        )
    for dtype in ("float32", "bfloat16"):
        rival = training.fastest_rival(dtype)
        if rival is not None:
            ratio = training.speed_up("ours", rival.name).median
            lines.append(f"{ratio:.2f} times the fastest PyTorch in {dtype} ({rival.name}).")
    if any(entry.name == "transformers" for entry in training.finished()):
        lines.append(f"{training.speed_up('ours', 'transformers').median:.1f} times transformers as people use it.")
    leanest = training.leanest_rival()
    if leanest is not None:
        share = ours.peak_bytes / leanest.peak_bytes
        lines.append(f"Peak memory {_mb(ours.peak_bytes)} MB, {share:.2f} of the leanest PyTorch ({leanest.name}).")
    return lines


def _headline(result: BenchmarkResult) -> str:
    machine = result.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    shell = machine.shell_blas_kernel
    lines = [
        f"{machine.processor}, {machine.cores} cores, {machine.threads} threads; {machine.blas}; {versions}",
        f"{machine.date}, load {machine.load_before:.1f} to {machine.load_after:.1f}; batch {result.rows} x "
        f"{result.tokens} tokens, {result.masked:.0f} masked; the processor has {'' if machine.bfloat16 else 'no '}"
        f"bf16 instructions",
    ]
    if shell:
        lines.append(f"OPENBLAS_CORETYPE={shell} of this shell is not handed on to the contestants.")
    return "\n".join(lines)


def _failures(contest: Contest) -> list[str]:
    return [f"{entry.title}: {entry.failure}." for entry in contest.entries if entry.failure]


def _training_table(result: BenchmarkResult) -> Table:
    training = result.training
    table = _table(
        "Training step, float32 unless bf16 is said; PyTorch with masked rows only and no dropout", "contestant"
    )
    for column in (
        "tokens/s",
        "quartiles",
        "ours is … times as fast",
        "peak MB",
        "above imports",
        "first loss",
        "last loss",
    ):
        table.add_column(column, justify="right")
    for entry in training.entries:
        if entry.name in PRODUCTS:
            continue
        if not entry.seconds:
            table.add_row(entry.title, "-")
            continue
        speed = result.tokens_per_second(entry)
        table.add_row(
            entry.title,
            f"{speed.median:,.0f}",
            f"{speed.low:,.0f} to {speed.high:,.0f}",
            _speed_up(training, "ours", entry),
            _mb(entry.peak_bytes),
            _mb(entry.peak_bytes - entry.imported_bytes),
            f"{entry.first_value:.5f}",
            f"{entry.last_value:.5f}",
        )
    return table


def _inference_table(result: BenchmarkResult) -> Table:
    inference = result.inference
    table = _table("fill-mask of a 16-token sentence, in a loaded process", "contestant")
    for column in ("ms", "quartiles", "ours is … times as fast", "peak MB"):
        table.add_column(column, justify="right")
    for entry in inference.entries:
        if not entry.seconds:
            table.add_row(entry.title, "-")
            continue
        table.add_row(
            entry.title, *_milliseconds(entry.quartiles), _speed_up(inference, "ours", entry), _mb(entry.peak_bytes)
        )
    return table


def _scaling_table(result: BenchmarkResult) -> Table:
    table = _table(f"Our step: cost grows as tokens to the power of {result.scaling.exponent:.2f}", "")
    for column in ("tokens/s", "quartiles of a step, ms"):
        table.add_column(column, justify="right")
    for tokens, seconds in zip(result.scaling.tokens, result.scaling.seconds, strict=True):
        quartiles = Quartiles.of(seconds)
        table.add_row(
            f"{tokens:,} tokens",
            f"{tokens / quartiles.median:,.0f}",
            f"{1e3 * quartiles.low:.0f} to {1e3 * quartiles.high:.0f}",
        )
    for entry in result.threads.finished():
        low, median, high = entry.quartiles
        speed = result.rows * result.tokens / median
        table.add_row(entry.title, f"{speed:,.0f}", f"{1e3 * low:.0f} to {1e3 * high:.0f}")
    return table


def _gradient_table(contest: Contest) -> Table:
    table = _table("Gradient of the token embeddings of one batch", "way")
    for column in ("ms", "quartiles", "ours is … times as fast"):
        table.add_column(column, justify="right")
    for entry in contest.finished():
        table.add_row(entry.title, *_milliseconds(entry.quartiles), _speed_up(contest, "sorted", entry))
    return table


def _cold_start_table(result: BenchmarkResult) -> Table:
    table = _table("From nothing", "program")
    for column in ("ms", "quartiles"):
        table.add_column(column, justify="right")
    for start in result.cold_start:
        table.add_row(start.title, *(_milliseconds(Quartiles.of(start.seconds)) if start.seconds else ("failed", "")))
    return table


def _table(title: str, first: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE)
    table.add_column(first)
    return table


def _milliseconds(seconds: Quartiles) -> tuple[str, str]:
    low, median, high = (1e3 * value for value in seconds)
    return f"{median:.3g}", f"{low:.3g} to {high:.3g}"


def _speed_up(contest: Contest, ours: str, entry: Entry) -> str:
    if entry.name == ours or not contest.entry(ours).seconds:
        return ""
    low, median, high = contest.speed_up(ours, entry.name)
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f}"
