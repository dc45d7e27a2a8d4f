"""`mini-bert config show|presets`."""

from __future__ import annotations

from typing import Annotated

from tyro.conf import arg

from mini_bert.cli.options import ConfigOptions, Flag


def show(options: Annotated[ConfigOptions, arg(name="")], *, json: Flag = False, plain: Flag = False) -> int:
    """Print the whole configuration that presets, files and options add up to, and check it on the way.

    Examples:
      mini-bert config show --config training/pretraining
      mini-bert config show --config model/tiny --config mine.yaml --train.lr 2e-3
      mini-bert config show --plain > mine.yaml      # a file to begin with

    Args:
        json: as JSON.
        plain: as YAML without the meaning of each setting.
    """
    config = options.load()
    if json:
        import json as json_format

        print(json_format.dumps(config.to_dict(), indent=2))
        return 0
    from mini_bert.config.load import dump_config

    print(dump_config(config, explain=not plain), end="")
    return 0


def presets() -> int:
    """List the presets, to be used as `--config NAME` and in YAML files as `extends: NAME`.

    Examples:
      mini-bert config presets
      mini-bert config show --config training/debugging
    """
    from mini_bert.config.presets import preset_names, preset_purpose

    for name in preset_names():
        print(f"{name:<22}  {preset_purpose(name)}")
    return 0
