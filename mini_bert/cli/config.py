"""`mini-bert config show|diff|validate|presets`."""

from __future__ import annotations

from typing import Annotated

from tyro.conf import Positional, arg

from mini_bert.cli import BAD_INPUT, CHECK_FAILED, DONE
from mini_bert.cli.options import ConfigOptions, Flag
from mini_bert.cli.results import print_json
from mini_bert.errors import InvalidInputError

Compared = Positional[Annotated[str, arg(metavar="PRESET|FILE|RUN", help_behavior_hint="")]]
Files = Positional[Annotated[tuple[str, ...], arg(metavar="FILE…", help_behavior_hint="")]]


def show(
    options: Annotated[ConfigOptions, arg(name="")], *, origins: Flag = False, json: Flag = False, plain: Flag = False
) -> int:
    """Print the whole configuration that presets, files, variables and options add up to, and check it on the way.

    Examples:
      mini-bert config show --config training/pretraining
      mini-bert config show --config model/tiny --config mine.yaml --train.lr 2e-3 --origins
      mini-bert config show --config training/pretraining --plain > mine.yaml    # a file to begin with

    Args:
        origins: behind each value, where it comes from.
        json: as JSON.
        plain: as YAML without the meaning of each setting.
    """
    import sys

    from mini_bert.config.load import dump_config
    from mini_bert.config.no_effect import without_effect

    config, origins_of = options.resolve()
    for note in without_effect(config):
        print(f"Note: {note}", file=sys.stderr)
    if not json:
        print(dump_config(config, explain=not plain, origins=origins_of if origins else None), end="")
        return DONE
    values = config.to_dict()
    if origins:
        for section, settings in values.items():
            for name, value in settings.items():
                origin = origins_of.get(f"{section}.{name}")
                settings[name] = {"value": value, "origin": str(origin or "default")}
    print_json(values)
    return DONE


def diff(one: Compared, other: Compared, *, json: Flag = False) -> int:
    """Show where two configurations differ, and where each value comes from. Exit code 0: nowhere, 1: somewhere.

    Each is a preset, a YAML file, the name of a run or a run's folder. Variables are left out: they would be in both.

    Examples:
      mini-bert config diff model/tiny model/small
      mini-bert config diff first second            # why did two runs go differently?
      mini-bert config diff training/pretraining mine.yaml

    Args:
        one: on the left.
        other: on the right.
        json: as JSON.
    """
    from mini_bert.config.compare import configuration_of, differences
    from mini_bert.config.load import one_line, resolve

    found = differences(*(resolve([configuration_of(name)]) for name in (one, other)))
    origins = [tuple(str(origin or "default") for origin in difference.origins) for difference in found]
    if json:
        print_json(
            [
                {"setting": difference.setting, "values": difference.values, "origins": origins}
                for difference, origins in zip(found, origins, strict=True)
            ]
        )
    elif found:
        from mini_bert.reports.table import Table

        rows = [
            (difference.setting, shown[0], places[0], shown[1], places[1])
            for difference, places in zip(found, origins, strict=True)
            for shown in [tuple(map(one_line, difference.values))]
        ]
        columns = ("setting", one, "from", other, "from")
        print(Table(f"{len(rows)} settings differ", columns, tuple(rows), left=(0, 1, 2, 3, 4)).plain(), end="")
    return CHECK_FAILED if found else DONE


def validate(files: Files, *, json: Flag = False) -> int:
    """Check configuration files without using them: every problem of each, with its line. Exit code 2 if one is wrong.

    What a file extends is checked as well, and each of its environments. Settings that have no effect beside the others
    are named; they are no problems.

    Examples:
      mini-bert config validate mine.yaml
      mini-bert config validate conf/*.yaml

    Args:
        files: YAML files, or presets.
        json: as JSON, `{"mine.yaml": []}`.
    """
    from mini_bert.config.validate import notes_of, problems_of

    if not files:
        raise InvalidInputError("FILE", got="none", expected="configuration files")
    problems = {file: problems_of(file) for file in files}
    if json:
        print_json(problems)
    else:
        for file, messages in problems.items():
            print(f"{file}: {f'{len(messages)} problems' if len(messages) > 1 else 'a problem' if messages else 'OK'}")
            for message in messages or [f"Note: {note}" for note in notes_of(file)]:
                print(f"  {message}")
    return BAD_INPUT if any(problems.values()) else DONE


def presets() -> int:
    """List the presets, to be used as `--config NAME` and in YAML files as `extends: NAME`.

    Examples:
      mini-bert config presets
      mini-bert config show --config training/debugging
    """
    from mini_bert.config.presets import preset_names, preset_purpose

    for name in preset_names():
        print(f"{name:<22}  {preset_purpose(name)}")
    return DONE
