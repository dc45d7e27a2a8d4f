"""The whole benchmark: one function, one result file, one picture."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

from mini_bert import __version__
from mini_bert.atomic_files import storage_errors
from mini_bert.benchmarks import contestants as cast
from mini_bert.benchmarks import mkl_avx512
from mini_bert.benchmarks.cold_start import measure_cold_starts
from mini_bert.benchmarks.duel import Contestant, alternate, qualify
from mini_bert.benchmarks.result import BenchmarkResult, Contest, Floor, Machine, Scaling
from mini_bert.benchmarks.tables import plain_text
from mini_bert.benchmarks.workload import Workload, make_workload, vocabulary
from mini_bert.config.schema import ModelConfig
from mini_bert.errors import InvalidInputError, MissingExtraError
from mini_bert.machine import available_cores, processor_name
from mini_bert.model.matrix_products import step_flops

Report = Callable[[str], None]


class _Length(NamedTuple):
    """How long everything is measured."""

    warm_up: int
    rounds: int
    steps: int
    starts: int
    trials: bool
    batch_sizes: tuple[int, ...]


_FULL = _Length(warm_up=16, rounds=12, steps=8, starts=7, trials=True, batch_sizes=(16, 32, 64, 128, 256))
_QUICK = _Length(warm_up=8, rounds=4, steps=3, starts=2, trials=False, batch_sizes=(16, 64, 128))


def run_benchmark(
    *,
    against: Literal["torch"] | None = None,
    quick: bool = False,
    output: str | Path | None = None,
    threads: int | None = None,
    rows: int = 64,
    shape: ModelConfig | None = None,
    report: Report = lambda message: None,
) -> BenchmarkResult:
    """Measure training, inference, memory and cold start; minutes, not seconds.

    Args:
        against: "torch" to have PyTorch and transformers take part; None: only ours.
        quick: fewer rounds, and PyTorch's settings as they were found to be best instead of tried anew.
        output: a folder for `benchmark.json`, its tables as `benchmark.txt` and, where matplotlib is installed,
            `benchmark.svg` and `benchmark.png`.
        threads: threads of every contestant; None: one a core.
        rows: B, rows of the training batch.
        shape: the network; None: the faithful Mini-BERT.
        report: called with a line about what is being done.

    Raises:
        MissingExtraError: `against="torch"` and the extra `reference` is not installed.
        InvalidInputError: an argument is out of bounds.
        StorageError: `output` is no folder and cannot become one.
    """
    if against not in (None, "torch"):
        raise InvalidInputError("against", got=repr(against), expected="'torch' or nothing")
    if rows < 4 or (threads is not None and threads < 1):
        raise InvalidInputError("rows, threads", got=(rows, threads), expected="at least 4 rows and 1 thread")
    if output is not None:  # a folder that cannot be written is found now, not after minutes of measuring
        with storage_errors(Path(output)):
            Path(output).mkdir(parents=True, exist_ok=True)
    if against == "torch":
        _require_reference()
    shape = ModelConfig() if shape is None else shape
    length = _QUICK if quick else _FULL
    workers = available_cores() if threads is None else threads
    load_before = _load()
    with tempfile.TemporaryDirectory(prefix="mini-bert-bench-") as folder:
        model = Path(folder) / "model"
        _save_model(shape, model)
        work = make_workload(Path(folder) / "batches", shape, model=model, rows=rows)
        training = _training(Path(folder), work, length, workers, against, report)
        floor = _floor(work, training)
        result = BenchmarkResult(
            machine=_machine(workers, training, load_before),
            rows=work.rows,
            tokens=work.tokens,
            masked=work.masked_tokens(),
            shape=work.shape,
            quick=quick,
            training=training,
            floor=floor,
            threads=_thread_scaling(work, length, workers, report),
            scaling=_token_scaling(Path(folder), work, length, workers, report),
            inference=_inference(work, length, workers, against, report),
            embedding_gradient=alternate(
                cast.EMBEDDING_GRADIENT, work, threads=1, warm_up=2, rounds=length.rounds, steps=4, report=report
            ),
            cold_start=measure_cold_starts(
                model, against_torch=against == "torch", starts=length.starts, report=report
            ),
        )
    result = result.model_copy(update={"machine": result.machine.model_copy(update={"load_after": _load()})})
    if output is not None:
        write_files(result, Path(output))
    return result


def write_files(result: BenchmarkResult, folder: Path) -> list[Path]:
    """Write `benchmark.json`, `benchmark.txt` and, where matplotlib is installed, the picture; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "benchmark.json", folder / "benchmark.txt"]
    result.write(written[0])
    written[1].write_text(plain_text(result), encoding="utf-8")
    if find_spec("matplotlib") is not None:
        from mini_bert.benchmarks.picture import draw

        written += draw(result, folder)
    return written


def _training(
    folder: Path, work: Workload, length: _Length, threads: int, against: str | None, report: Report
) -> Contest:
    processor = _processor_facts()
    ours, theirs = [cast.OURS, cast.OURS_DROPOUT, cast.PRODUCTS], []
    if "avx512f" in processor.get("flags", "").split():
        ours += [cast.OURS_AVX2, cast.PRODUCTS_AVX2]
    if against == "torch":
        theirs += [*cast.TORCH_TRAINING, *cast.beyond(mkl_avx512.environment(folder, processor))]
    return _contest(ours, theirs, work, length, threads, report)


def _inference(work: Workload, length: _Length, threads: int, against: str | None, report: Report) -> Contest:
    theirs = cast.TORCH_FILL_MASK if against == "torch" else ()
    many = length._replace(warm_up=64, steps=100)
    return _contest([cast.FILL_MASK], theirs, work, many, threads, report)


def _contest(
    ours: Sequence[Contestant],
    theirs: Sequence[Contestant],
    work: Workload,
    length: _Length,
    threads: int,
    report: Report,
) -> Contest:
    chosen, trials = list(ours), {}
    for contestant in theirs:
        if contestant.variants and length.trials:
            contestant, trials[contestant.name] = qualify(contestant, work, threads=threads, report=report)
        elif contestant.variants:
            contestant = replace(contestant, options={**contestant.options, **contestant.variants[0]})
        chosen.append(contestant)
    contest = alternate(
        chosen,
        work,
        threads=threads,
        warm_up=max(length.warm_up, work.batches),
        rounds=length.rounds,
        steps=length.steps,
        report=report,
    )
    return contest.model_copy(update={"trials": trials})


def _thread_scaling(work: Workload, length: _Length, threads: int, report: Report) -> Contest:
    counts = sorted({1, 2, threads})
    return alternate(
        [replace(cast.OURS, name=str(n), title=f"{n} thread{'s' if n > 1 else ''}", threads=n) for n in counts],
        work,
        threads=threads,
        warm_up=length.warm_up // 2,
        rounds=length.rounds // 2,
        steps=length.steps,
        report=report,
    )


def _token_scaling(folder: Path, work: Workload, length: _Length, threads: int, report: Report) -> Scaling:
    """Ours on batches of several sizes; sizes alternate like contestants."""
    works = [
        make_workload(folder / f"{rows}-rows", work.model_config, model=Path(work.model), rows=rows, batches=4)
        for rows in length.batch_sizes
    ]
    contest = alternate(
        [replace(cast.OURS, name=str(work.rows), title=f"{work.rows} rows") for work in works],
        works,
        threads=threads,
        warm_up=4,
        rounds=length.rounds // 2,
        steps=4,
        report=report,
    )
    return Scaling(
        tokens=[work.rows * work.tokens for work in works], seconds=[entry.seconds for entry in contest.entries]
    )


def _floor(work: Workload, training: Contest) -> Floor:
    masked = round(work.masked_tokens())
    shape = work.model_config
    products = training.entry("sgemm")
    return Floor(
        gflop=step_flops(shape, work.rows, work.tokens, masked) / 1e9,
        gflop_all_rows=step_flops(shape, work.rows, work.tokens, masked, last_block_rows=False) / 1e9,
        gflop_per_second=[products.facts["gflop"] / seconds for seconds in products.seconds],
    )


def _save_model(shape: ModelConfig, folder: Path) -> None:
    from mini_bert.model.bert import MiniBERT
    from mini_bert.text.wordpiece import WordPiece

    MiniBERT(shape, tokenizer=WordPiece(vocabulary(shape.vocab_size))).save_pretrained(folder)


def _require_reference() -> None:
    missing = [name for name in ("torch", "transformers", "tokenizers") if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            "--against torch",
            got=f"no {' and no '.join(missing)}",
            expected="the packages of the extra `reference`",
            advice="Install them: pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu, "
            'then pip install "mini-bert[reference]".',
        )


def _machine(threads: int, training: Contest, load_before: float) -> Machine:
    versions: dict[str, str] = {"mini-bert": __version__}
    for entry in training.entries:
        versions |= entry.facts.get("versions", {})
    facts = _processor_facts()
    return Machine(
        processor=processor_name(),
        cores=available_cores(),
        threads=threads,
        bfloat16=bool({"avx512_bf16", "amx_bf16", "bf16"} & set(facts.get("flags", facts.get("Features", "")).split())),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        blas=training.entry("ours").facts.get("blas", "unknown"),
        shell_blas_kernel=os.environ.get("OPENBLAS_CORETYPE", ""),
        versions=versions,
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        load_before=load_before,
        load_after=load_before,
    )


def _processor_facts() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def _load() -> float:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
