"""`mini-bert race`: whole trainings beside transformers', and who was first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from mini_bert.cli import DONE
from mini_bert.cli.options import Flag, option, require_at_least_one
from mini_bert.cli.results import print_table, say
from mini_bert.errors import InvalidInputError


def race(
    *,
    out: Annotated[str, option("folder for race.json and the picture (default: docs/results)", "FOLDER")] = (
        "docs/results"
    ),
    runs: Annotated[str, option("folder of the trainings (default: runs/race)", "FOLDER")] = "runs/race",
    only: Annotated[tuple[str, ...] | None, option("these racers alone", "NAME…")] = None,
    threads: Annotated[int | None, option("threads of everybody (default: one a core)", "INT")] = None,
    clock: Flag = False,
    show: Flag = False,
    json: Flag = False,
) -> int:
    """Train beside transformers on the same text: who reaches which held-out loss how much sooner?

    First the clock: how long does a step of each take, in turn, on a machine that does nothing else? Then every
    training, as many steps as its minutes hold: a few hours in all. Each goes on where it was stopped.

    Examples:
      mini-bert race
      mini-bert race --clock
      mini-bert race --only fast default
      mini-bert race --show

    Args:
        clock: only measure the clock, again if need be.
        show: train nothing; show what there is.
        json: the result as JSON.
    """
    from mini_bert.benchmarks.race.race import FILE_NAME, measure_clock, run_race
    from mini_bert.benchmarks.race.racers import RACERS
    from mini_bert.benchmarks.race.result import RaceResult
    from mini_bert.benchmarks.race.tables import table

    require_at_least_one("--threads", threads)
    names = [racer.name for racer in RACERS]
    unknown = sorted(set(only or ()) - set(names))
    if unknown or only == ():
        raise InvalidInputError("--only", got=(unknown or ["nothing"])[0], expected=f"names among {', '.join(names)}")
    folder = Path(out)
    if not show:
        if clock or not (folder / FILE_NAME).exists():
            measure_clock(folder, threads=threads, told=say)
        if not clock:
            run_race(folder, Path(runs), only=only or (), threads=threads, told=say)
        _draw(folder)
    result = RaceResult.read(folder / FILE_NAME)
    if json:
        print(result.model_dump_json(indent=2))
    else:
        print_table(table(result))
    return DONE


def _draw(folder: Path) -> None:
    from importlib.util import find_spec

    if find_spec("matplotlib") is not None:
        from mini_bert.benchmarks.race.picture import draw
        from mini_bert.benchmarks.race.race import FILE_NAME
        from mini_bert.benchmarks.race.result import RaceResult

        draw(RaceResult.read(folder / FILE_NAME), folder)
