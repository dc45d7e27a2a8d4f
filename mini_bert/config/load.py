"""From presets, YAML files, variables and single settings, later over earlier, to one validated configuration.

```yaml
extends: [training/pretraining, house-style.yaml]  # presets, or files beside this one; read before it
model:
  hidden-size: 256  # hyphens and underscores are the same
train:
  lr: 1e-3
environments:  # laid over the above where chosen: --environment server
  server:
    run: {threads: 16}
```
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mini_bert.config.layers import BESIDE_SECTIONS, Layer, Origin, Report, layer_of, raise_it, settings_of
from mini_bert.config.plain_yaml import read_document
from mini_bert.config.presets import preset_names, preset_path
from mini_bert.config.schema import Config
from mini_bert.config.variables import ENVIRONMENT, layer_of_variables
from mini_bert.config.wording import shown
from mini_bert.errors import ConfigError, nearest

_ALTERNATIVES = {"steps": "minutes", "minutes": "steps"}
"""Of these, one may be set: a later layer that sets one drops what an earlier layer set of the other."""

_MOST_FILES = 50
"""That one source may extend, directly and through others: two by two they would soon be millions."""


class Resolved(NamedTuple):
    """A configuration, and where each of its settings comes from."""

    config: Config
    origins: dict[str, Origin]
    """By `section.setting`; what is not here has its default."""


def load_config(
    sources: Iterable[str | Path] = (),
    overrides: Mapping[str, object] | None = None,
    *,
    environment: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> Config:
    """The configuration that sources, variables and, last, overrides describe; what none of them sets has its default.

    Args:
        sources: names of presets (`model/tiny`) or paths of YAML files; later ones win, setting by setting.
        overrides: `{"train": {"lr": 1e-3}}` or `{"train.lr": 1e-3}`.
        environment: the overlays of this name in the sources are read, each over its own source.
        variables: where `MINI_BERT__TRAIN__LR` and its like are looked up, and `MINI_BERT_ENVIRONMENT` where no
            environment is given: `os.environ`, as the command line does. None: nowhere.

    Raises:
        ConfigError: a source does not exist, is no plain UTF-8 YAML mapping, or extends itself; a setting is unknown,
            of a wrong type or out of bounds; no source has the environment.
    """
    return resolve(sources, overrides, environment=environment, variables=variables).config


def resolve(
    sources: Iterable[str | Path] = (),
    overrides: Mapping[str, object] | None = None,
    *,
    environment: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> Resolved:
    """As `load_config`, with the origin of each setting."""
    layers = [layer for source in sources for layer in read_layers(str(source))]
    chosen = _chosen(environment, variables or {}, layers)
    layers = [layer for layer in layers if layer.environment in (None, chosen)]
    layers.append(layer_of_variables(variables or {}))
    layers.append(layer_of(_nested(overrides or {}), lambda *_: Origin()))
    merged, origins = merge(layers)
    try:
        return Resolved(Config(**merged), origins)
    except ConfigError as error:
        origin = origins.get(error.argument, Origin())
        raise origin.error(error.argument, error.got, error.expected, error.advice) from None


def merge(layers: Iterable[Layer]) -> tuple[dict[str, dict[str, Any]], dict[str, Origin]]:
    """The settings of all layers, later over earlier, and their origins; not validated."""
    merged: dict[str, dict[str, Any]] = {}
    origins: dict[str, Origin] = {}
    for layer in layers:
        for section, settings in layer.sections.items():
            into = merged.setdefault(section, {})
            for name, value in settings.items():
                other = _ALTERNATIVES.get(name)
                if other and value is not None and settings.get(other) is None:
                    into.pop(other, None)
                    origins.pop(f"{section}.{other}", None)
                into[name] = value
                origins[f"{section}.{name}"] = layer.origins[f"{section}.{name}"]
    return merged, origins


def dump_config(config: Config, *, explain: bool = False, origins: Mapping[str, Origin] | None = None) -> str:
    """The configuration as YAML that `load_config` reads back to the same.

    Behind each setting stands, with `explain`, its meaning; with `origins`, as `resolve` gives them, where it is from.
    """
    if not explain and origins is None:
        return str(yaml.safe_dump(config.to_dict(), sort_keys=False))
    lines: list[str] = []
    for section, settings in config.to_dict().items():
        lines.append(f"{section}:")
        for name, value in settings.items():
            meaning = settings_of(section)[name].description
            note = meaning if origins is None else origins.get(f"{section}.{name}", "default")
            lines.append(f"  {f'{name}: {one_line(value)}':<36}  # {note}")
    return "\n".join(lines) + "\n"


def one_line(value: object) -> str:
    """A value as YAML writes it within a line.

    >>> one_line(("mlm", "nsp")), one_line(None)
    ('[mlm, nsp]', 'null')
    """
    value = list(value) if isinstance(value, tuple) else value
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    return text.removesuffix("...\n").strip()


def read_layers(source: str, report: Report = raise_it) -> list[Layer]:
    """The layers of a source, after those of all that it extends; its overlays, chosen or not, last.

    Args:
        source: a preset or a file.
        report: hears of every problem; what it concerns is then left out.
    """
    return _read(source, Path(), Origin(), (), [], report)


def _read(
    source: str, beside: Path, asked_by: Origin, chain: tuple[Path, ...], read: list[Path], report: Report
) -> list[Layer]:
    """As `read_layers`, for a source that is named at `asked_by`, in a file that `chain` ends with; `read` grows."""
    try:
        path = _find(source, beside, asked_by)
        if path in chain:
            cycle = " → ".join(link.name for link in (*chain, path))
            raise asked_by.error("extends", cycle, "no cycle")
        read.append(path)
        if len(read) > _MOST_FILES:
            raise asked_by.error("extends", f"more than {_MOST_FILES} files", "a few")
        values, lines = read_document(path)
    except ConfigError as problem:
        report(problem)
        return []
    is_preset = source in preset_names()
    name = source if is_preset or not chain else str(beside / source)

    def origin(*keys: object) -> Origin:
        return Origin(name, lines.get(tuple(str(key).replace("-", "_") for key in keys)), None, is_preset)

    parents, environments = (values.pop(key, None) for key in BESIDE_SECTIONS)
    parents = [parents] if isinstance(parents, str) else parents or []
    if not isinstance(parents, list) or not all(isinstance(parent, str) for parent in parents):
        report(origin("extends").error("extends", shown(parents), "a preset or file, or a list of them"))
        parents = []
    asked_by = origin("extends")
    inherited = [
        layer for parent in parents for layer in _read(parent, path.parent, asked_by, (*chain, path), read, report)
    ]
    own = layer_of(values, origin, report=report)
    return [*inherited, own, *_overlays(environments, origin, report)]


def _overlays(environments: object, origin: Any, report: Report) -> list[Layer]:
    """The layers under `environments:`."""
    if environments is None:
        return []
    if not isinstance(environments, Mapping):
        report(origin("environments").error("environments", shown(environments), "names with sections beneath them"))
        return []
    overlays = []
    for name, values in environments.items():
        place = origin("environments", name)
        if not isinstance(name, str) or not name.isprintable():
            report(place.error("environments", shown(name), "a name"))
        elif values is not None and not isinstance(values, Mapping):
            report(place.error(f"environments.{name[:60]}", shown(values), "sections beneath it"))
        else:

            def within(*keys: object, name: str = name) -> Origin:
                return origin("environments", name, *keys)._replace(environment=name)  # type: ignore[no-any-return]

            overlays.append(layer_of(values or {}, within, report=report, environment=name))
    return overlays


def _chosen(environment: str | None, variables: Mapping[str, str], layers: Iterable[Layer]) -> str | None:
    """The environment that is asked for. The variable may be set for good, so sources without any overlay pass."""
    known = {layer.environment for layer in layers if layer.environment is not None}
    asked = variables.get(ENVIRONMENT) or None if environment is None else environment
    if asked is None or asked in known or (environment is None and not known):
        return asked
    argument = ENVIRONMENT if environment is None else "environment"
    expected = "one that a source has under `environments:`"
    advice = nearest(asked, known) if known else "None of the sources has any."
    raise ConfigError(argument, got=shown(asked), expected=expected, advice=advice)


def _find(source: str, beside: Path, asked_by: Origin) -> Path:
    presets = preset_names()
    if source in presets:
        return preset_path(source)
    got = "no such file or preset"
    try:
        path = (beside / Path(source).expanduser()).resolve()
        if path.is_file():
            return path
        got = "a folder" if path.is_dir() else got
    except (OSError, ValueError, RuntimeError):  # a loop of links, an embedded null, no such home
        pass
    raise asked_by.error(shown(source), got, "a YAML file or a preset", nearest(source[:60], presets))


def _nested(overrides: Mapping[str, object]) -> dict[str, object]:
    """`{"train.lr": 1}` as `{"train": {"lr": 1}}`."""
    nested: dict[str, dict[str, object]] = {}
    for key, value in overrides.items():
        section, dot, name = key.partition(".")
        into = nested.setdefault(section, {})
        if dot:
            into[name] = value
        elif isinstance(value, Mapping):
            into.update(value)
        else:
            raise ConfigError(key, got=shown(value), expected="a mapping of settings, or section.setting as the key")
    return dict(nested)
