"""`mini-bert study list|clock|run|show`: which is better, at an equal budget, over seeds?"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from mini_bert.cli import CHECK_FAILED, DONE, code_of_signal
from mini_bert.cli.options import Flag, option, require_at_least_one
from mini_bert.cli.results import print_json, print_result, say
from mini_bert.errors import DataError, nearest

if TYPE_CHECKING:
    from mini_bert.studies.session import Status

Source = Positional[Annotated[str, arg(metavar="STUDY", help_behavior_hint="")]]
Out = Annotated[str, option("folder of the result, NAME.json (default: studies)", "FOLDER")]
Directory = Annotated[str, option("folder of queues and runs (default: runs/studies)", "FOLDER")]

_SECONDS_BETWEEN_LINES = 30.0
_MEASURED = "docs/results/studies"
"""Where the project keeps what it has measured."""


def list(*, json: Flag = False) -> int:
    """List the studies that come with the package: what each asks, of how many pieces, at which budget.

    Examples:
      mini-bert study list
      mini-bert study list --json

    Args:
        json: as JSON.
    """
    from mini_bert.reports.study import budget
    from mini_bert.reports.table import Table
    from mini_bert.studies.plan import all_pieces
    from mini_bert.studies.reading import read_study, study_names

    studies = [read_study(name) for name in study_names()]
    if json:
        print_json([study.to_dict() for study in studies])
        return DONE
    rows = tuple(
        (study.name, f"{len(all_pieces(study))}", budget(study.to_dict()), study.question) for study in studies
    )
    print(Table(f"{len(rows)} studies", ("name", "pieces", "budget", "question"), rows, left=(0, 2, 3)).plain(), end="")
    print("\nTo run one: mini-bert study run NAME. Your own: a YAML file; see docs/guide/studies.md.")
    return DONE


def clock(
    study: Source,
    *,
    threads: Annotated[int | None, option("of each piece (default: one a core)", "INT")] = None,
    again: Flag = False,
    quick: Flag = False,
    out: Out = "studies",
    json: Flag = False,
) -> int:
    """Measure how long a training step of each piece takes, and in how much memory, in alternating blocks.

    Do it while the machine does nothing else: it turns an equal time into numbers of steps, once; then nothing that the
    machine does changes a result. `study run` does it first where it has not been done.

    Examples:
      mini-bert study clock toolbox
      mini-bert study clock my-study.yaml --again

    Args:
        study: a name of `mini-bert study list`, or a YAML file.
        again: measure all pieces anew; where numbers of steps change, trials have to be done again.
        quick: of the study that `run --quick` runs.
        json: as JSON.
    """
    from mini_bert.cli.progress import preparation
    from mini_bert.reports.study import clock_table
    from mini_bert.studies.reading import read_study
    from mini_bert.studies.run import clock_study
    from mini_bert.studies.session import opened

    require_at_least_one("--threads", threads)
    read = read_study(study, quick=quick)
    with preparation() as progress:
        session = opened(read, Path("runs/studies"), _result_file(read.name, out), progress=progress)
    if again:
        session.result = session.result.model_copy(update={"clock": None})
    clock_study(session, threads=threads, say=say)
    found = session.result
    assert found.clock is not None
    if json:
        print_json(found.clock.model_dump(mode="json"))
        return DONE
    print(clock_table(found.model_dump(mode="json")).plain(), end="")
    return DONE


def run(
    study: Source,
    *,
    workers: Annotated[int, option("trials that are trained at once (default: 1)", "INT")] = 1,
    threads: Annotated[int | None, option("of each trial (default: the cores, shared out)", "INT")] = None,
    quick: Flag = False,
    keep: Flag = False,
    out: Out = "studies",
    directory: Directory = "runs/studies",
    json: Flag = False,
) -> int:
    """Run a study: every piece at an equal budget, over seeds, beside the baseline.

    What is finished is never done again: stop it with Ctrl-C, kill any process of it, or start it in two terminals; the
    same command goes on. The result file is written after each trial. Needs the extra `study`.

    Examples:
      mini-bert study run optimisers --quick            # whether everything works: a tiny model, seconds
      mini-bert study run toolbox --workers 2
      mini-bert study run my-study.yaml --out results

    Args:
        study: a name of `mini-bert study list`, or a YAML file.
        quick: a tiny model, a few steps, three pieces.
        keep: leave the checkpoints of finished trials.
        json: the result as JSON.
    """
    from mini_bert.cli.progress import preparation
    from mini_bert.studies.reading import read_study
    from mini_bert.studies.run import run_study

    require_at_least_one("--workers", workers)
    require_at_least_one("--threads", threads)
    read = read_study(study, quick=quick)
    file = _result_file(read.name, out)
    with preparation() as progress:
        outcome = run_study(
            read,
            directory=Path(directory),
            result_file=file,
            workers=workers,
            threads=threads,
            keep=keep,
            report=_StatusLines(),
            say=say,
            progress=progress,
        )
    if outcome.signal is not None:
        print(f"\nStopped; the same command goes on. What is there: {file}", file=sys.stderr)
        return code_of_signal(outcome.signal)
    _print(outcome.result.model_dump(mode="json"), json=json)
    print(f"\nThe result is in {file}", file=sys.stderr)
    failed = [trial for trial in outcome.result.trials if trial.status == "failed"]
    if failed:
        say(f"{len(failed)} trial{'s' * (len(failed) != 1)} failed, the first with: {failed[0].message}")
    return CHECK_FAILED if failed else DONE


def show(
    study: Source,
    *,
    markdown: Flag = False,
    picture: Annotated[str | None, option("draw it too: PATH.svg or PATH.png (extra: plots)", "PATH")] = None,
    out: Out = "studies",
    json: Flag = False,
) -> int:
    """Show what a study found: differences to the baseline with 95 % intervals, time, memory, a verdict in words.

    Examples:
      mini-bert study show toolbox
      mini-bert study show docs/results/studies/toolbox.json --markdown
      mini-bert study show toolbox --picture toolbox.svg

    Args:
        study: its name, or the file of its result; in the project's own folder also one that came with it.
        markdown: as Markdown.
        json: as JSON, with every trial.
    """
    from mini_bert.reports.drawing import require_drawable
    from mini_bert.reports.study_picture import study_picture
    from mini_bert.studies.result import StudyResult

    if picture is not None:
        require_drawable(Path(picture))
    folder = Path(out)
    named = () if study.endswith(".yaml") else (Path(study),)
    places = (*named, *(_result_file(study, place) for place in (out, _MEASURED)))
    file = next((file for file in places if file.is_file()), None)
    if file is None:
        known = [path.stem for path in folder.glob("*.json")]
        advice = nearest(study, known) if known else f"There is none in {folder}; --out names another place."
        raise DataError("STUDY", got=repr(study), expected="a study that has been run, or its file", advice=advice)
    result = StudyResult.read(file).model_dump(mode="json")
    _print(result, json=json, markdown=markdown)
    if picture is not None:
        print(study_picture(result, Path(picture)), file=sys.stderr)
    return DONE


class _StatusLines:
    """A line for each trial that ends, and one every half minute."""

    def __init__(self) -> None:
        self._next_line = 0.0

    def __call__(self, status: Status) -> None:
        from mini_bert.reports.quantities import duration, number

        now, ended = time.monotonic(), status.finished
        if ended is None and now < self._next_line:
            return
        left = "" if status.seconds_left is None else f", about {duration(status.seconds_left)} left"
        at = f"{status.done} of {status.total} trials done{left}"
        if ended is not None:
            found = f"loss {number(ended.loss)}" if ended.loss is not None else ended.status
            if ended.first_below is not None:
                found = f"below after {ended.first_below:,} steps"
            say(f"{ended.piece}, seed {ended.seed}: {found}. {at}")
        elif status.running:
            say(f"{at}; now: {'; '.join(status.running)}")
        self._next_line = now + _SECONDS_BETWEEN_LINES


def _result_file(name: str, out: str) -> Path:
    return Path(out) / f"{Path(name).name.removesuffix('.yaml').removesuffix('.json')}.json"


def _print(result: dict[str, Any], *, json: bool, markdown: bool = False) -> None:
    from mini_bert.reports.study import study_block

    if markdown and not json:
        print(study_block(result), end="")
    else:
        print_result(result, json=json, markdown=markdown)
