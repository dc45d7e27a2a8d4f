"""From presets, YAML files and single settings, later over earlier, to one validated configuration, and back.

```yaml
extends: [training/pretraining, house-style.yaml]  # presets, or files beside this one; read before it
model:
  hidden-size: 256  # hyphens and underscores are the same
train:
  lr: 1e-3
```
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mini_bert.config.plain_yaml import read_mapping
from mini_bert.config.presets import preset_names, preset_path
from mini_bert.config.schema import Config
from mini_bert.config.wording import shown
from mini_bert.errors import ConfigError, nearest

_ALTERNATIVES = {"steps": "minutes", "minutes": "steps"}
"""Of these, one may be set: a later layer that sets one drops what an earlier layer set of the other."""


class Layer(NamedTuple):
    """The settings of one source."""

    origin: str
    """Where a message says that they stand; empty for what was given directly."""
    sections: dict[str, dict[str, object]]


def load_config(sources: Iterable[str | Path] = (), overrides: Mapping[str, object] | None = None) -> Config:
    """The configuration that the sources and, last, the overrides describe; what none of them sets has its default.

    Args:
        sources: names of presets (`model/tiny`) or paths of YAML files; later ones win, setting by setting.
        overrides: `{"train": {"lr": 1e-3}}` or `{"train.lr": 1e-3}`.

    Raises:
        ConfigError: a source does not exist, is no plain UTF-8 YAML mapping, or extends itself; a setting is unknown,
            of a wrong type or out of bounds.
    """
    layers = [layer for source in sources for layer in _read_layers(str(source), beside=Path(), chain=())]
    layers.append(Layer("", _sections(_nested(overrides or {}), origin="")))
    merged: dict[str, dict[str, object]] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        for section, settings in layer.sections.items():
            into = merged.setdefault(section, {})
            for name, value in settings.items():
                other = _ALTERNATIVES.get(name)
                if other and value is not None and settings.get(other) is None:
                    into.pop(other, None)
                into[name] = value
                origins[f"{section}.{name}"] = layer.origin
    try:
        return Config(**merged)
    except ConfigError as error:
        place = _place(error.argument, origins.get(error.argument, ""))
        raise ConfigError(place, got=error.got, expected=error.expected, advice=error.advice) from None


def dump_config(config: Config, *, explain: bool = False) -> str:
    """The configuration as YAML that `load_config` reads back to the same; with `explain`, each setting's meaning."""
    if not explain:
        return str(yaml.safe_dump(config.to_dict(), sort_keys=False))
    lines: list[str] = []
    for section, settings in config.to_dict().items():
        fields = type(getattr(config, section)).model_fields
        lines.append(f"{section}:")
        for name, value in settings.items():
            text = yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
            lines.append(f"  {f'{name}: {text}':<36}  # {fields[name].description}")
    return "\n".join(lines) + "\n"


def _read_layers(source: str, beside: Path, chain: tuple[Path, ...]) -> list[Layer]:
    """A source, after all that it extends."""
    path = _find(source, beside)
    origin = str(path) if chain else source
    if path in chain:
        cycle = " → ".join(link.name for link in (*chain, path))
        raise ConfigError(_place("extends", origin), got=cycle, expected="no cycle")
    values = read_mapping(path)
    parents = values.pop("extends", [])
    if isinstance(parents, str):
        parents = [parents]
    if not isinstance(parents, list) or not all(isinstance(parent, str) for parent in parents):
        raise ConfigError(_place("extends", origin), got=shown(parents), expected="a preset or file, or a list of them")
    inherited = [layer for parent in parents for layer in _read_layers(parent, path.parent, (*chain, path))]
    return [*inherited, Layer(origin, _sections(values, origin))]


def _find(source: str, beside: Path) -> Path:
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
    raise ConfigError(shown(source), got=got, expected="a YAML file or a preset", advice=nearest(source, presets))


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


def _sections(values: Mapping[object, object], origin: str) -> dict[str, dict[str, object]]:
    """The values by the names of the schema; unknown names are refused."""
    sections: dict[str, dict[str, object]] = {}
    for key, settings in values.items():
        section = _known(key, None, origin)
        if settings is None:  # a heading with nothing beneath it
            continue
        if not isinstance(settings, Mapping):
            raise ConfigError(_place(section, origin), got=shown(settings), expected="settings indented beneath it")
        into = sections.setdefault(section, {})
        for name, value in settings.items():
            into[_known(name, section, origin)] = value
    return sections


def _settings_of(section: str) -> list[str]:
    kind: Any = Config.model_fields[section].annotation
    return list(kind.model_fields)


def _known(key: object, section: str | None, origin: str) -> str:
    """The key as the schema spells it: a section's name, or a setting's name within a section."""
    names = list(Config.model_fields) if section is None else _settings_of(section)
    name = key.replace("-", "_") if isinstance(key, str) else shown(key)
    if name in names:
        return name
    homes = [home for home in Config.model_fields if name in _settings_of(home)]
    kind = "section" if section is None else f"setting of {section}"
    raise ConfigError(
        _place(name[:60] if section is None else f"{section}.{name[:60]}", origin),
        got=f"an unknown {kind}",
        expected=f"a {kind}",
        advice=f"It belongs to the section {homes[0]}." if homes else nearest(name, names),
    )


def _place(argument: str, origin: str) -> str:
    return f"{argument} in {origin}" if origin else argument
