"""`mini-bert runs list|show|verify|prune`: what was trained here, whether it still holds, and what may go."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from mini_bert.cli import CHECK_FAILED, DONE
from mini_bert.cli.options import Flag, option
from mini_bert.cli.results import print_json
from mini_bert.errors import InvalidInputError

Name = Positional[Annotated[str, arg(metavar="NAME")]]
Names = Positional[Annotated[tuple[str, ...], arg(metavar="NAME…", help_behavior_hint="")]]
Directory = Annotated[str, option("folder that holds the runs (default: runs)", "PATH")]


def list(*, directory: Directory = "runs", json: Flag = False) -> int:
    """List the runs: how far, how good, how large; the one that changed last first.

    Examples:
      mini-bert runs list
      mini-bert runs list --directory /data/runs --json

    Args:
        json: as JSON.
    """
    from mini_bert.reports.run_details import as_dict
    from mini_bert.reports.runs import runs_table
    from mini_bert.training.run_folders import summaries

    found = summaries(Path(directory))
    if json:
        print_json([as_dict(run) for run in found])
    elif found:
        print(runs_table(found, Path(directory)).plain(), end="")
    else:
        print(f"No runs in {directory}. To begin one: mini-bert pretrain --run first", file=sys.stderr)
    return DONE


def show(name: Name, *, directory: Directory = "runs", json: Flag = False) -> int:
    """Show one run: its settings, its course, its checkpoints, what it was made of.

    Examples:
      mini-bert runs show first
      mini-bert runs show /data/runs/first --json

    Args:
        name: a run of `mini-bert runs list`, or its folder.
        json: as JSON, with the loss of every record.
    """
    from mini_bert.cli.training_display import sparkline
    from mini_bert.reports.run_details import run_details
    from mini_bert.reports.runs import run_heading, run_tables
    from mini_bert.training.run_folders import find_run

    known = run_details(find_run(name, Path(directory)))
    if json:
        print_json(known)
        return DONE
    print(run_heading(known))
    if curve := sparkline([loss for _, loss in known["train_losses"]], 60):
        print(f"loss {curve}")
    for table in run_tables(known):
        print(f"\n{table.plain()}", end="")
    for incident in known["incidents"]:
        print(f"\nIncident, in {incident['file']}: {incident.get('reason', 'not readable')}")
    for problem in known["problems"]:
        print(f"\nProblem: {problem}")
    if known["warnings"]:
        print("\nFrom run.log")
    for event in known["warnings"][-10:]:
        print(f"  {event['time'][:19]}  {event['level']}: {event.get('message', event['event'])}")
    return DONE


def verify(names: Names = (), *, directory: Directory = "runs", json: Flag = False) -> int:
    """Compare runs with what was written: every file of every checkpoint, the log, the final sha256.

    Exit code 1 if anything is wrong.

    Examples:
      mini-bert runs verify                  # all runs
      mini-bert runs verify first second

    Args:
        names: runs of `mini-bert runs list`, or their folders.
        json: as JSON.
    """
    from mini_bert.training.run_folders import find_run, find_runs
    from mini_bert.training.run_integrity import verify_run

    runs = [find_run(name, Path(directory)) for name in names] or find_runs(Path(directory))
    if not runs:
        raise InvalidInputError(
            "--directory", got=f"{directory}, in which there is no run", expected="a folder of runs to compare"
        )
    found = {}
    for number, run in enumerate(runs, 1):
        findings = found[run.name] = []
        at = f"{number} of {len(runs)}: {run}"
        if not json:
            print(run)
        for finding in verify_run(run, told=partial(_overwrite_line, at)):
            _overwrite_line()
            findings.append({"subject": finding.subject, "problem": finding.problem, "note": finding.note})
            if not json:
                said = f"WRONG: {finding.problem}" if finding.problem else finding.note or "as it should be"
                print(f"  {finding.subject:<20}  {said}", flush=True)
    if json:
        print_json(found)
    wrong = sum(bool(finding["problem"]) for findings in found.values() for finding in findings)
    looked_at = sum(map(len, found.values()))
    if not json:
        print(f"{looked_at} things compared in {len(runs)} run{'s' * (len(runs) != 1)}, {wrong or 'none'} wrong")
    return CHECK_FAILED if wrong else DONE


def prune(
    names: Names,
    *,
    keep: Annotated[int, option("newest checkpoints that stay (default: 1)", "N")] = 1,
    keep_every: Annotated[int | None, option("checkpoints of every K-th step stay too", "K")] = None,
    dry_run: Flag = False,
    directory: Directory = "runs",
    json: Flag = False,
) -> int:
    """Remove old checkpoints of runs, and what killed writers left behind.

    The newest that holds and the best always stay, and a run that is being trained is refused.

    Examples:
      mini-bert runs prune first --dry-run
      mini-bert runs prune first second --keep 2 --keep-every 10000

    Args:
        names: runs of `mini-bert runs list`, or their folders.
        dry_run: only say what would go.
        json: as JSON.
    """
    from mini_bert.reports.quantities import size
    from mini_bert.training.run_folders import find_run, find_runs, prunable
    from mini_bert.training.run_folders import prune as prune_run

    if not names:
        known = ", ".join(run.name for run in find_runs(Path(directory)))
        raise InvalidInputError("NAME", got="none", expected=f"runs in {directory}", advice=known and f"Runs: {known}.")
    runs = dict.fromkeys(find_run(name, Path(directory)) for name in names)
    plans = {run: prunable(run, keep, keep_every) for run in runs}  # all are refused before any is touched
    gone = {run: plan if dry_run else prune_run(run, keep, keep_every) for run, plan in plans.items()}
    if json:
        print_json(
            {
                run.name: {
                    "removed": [str(path) for path in [*plan.checkpoints, *plan.leavings]],
                    "bytes": plan.bytes,
                    "dry_run": dry_run,
                }
                for run, plan in gone.items()
            }
        )
        return DONE
    for run, plan in gone.items():
        for path in [*plan.checkpoints, *plan.leavings]:
            print(f"{'would remove' if dry_run else 'removed'} {path}")
        print(f"{run}: {size(plan.bytes)} {'would be ' if dry_run else ''}freed")
    return DONE


def _overwrite_line(at: str = "", what: str = "") -> None:
    """A line that is written over, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{at} {what} …" if at else "\r\x1b[K", end="", file=sys.stderr, flush=True)
