"""Does the source that should win win, for every setting, and does every wrong setting get its name said?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple, get_args

import yaml

from mini_bert.config.load import dump_config, load_config, resolve
from mini_bert.config.schema import Config
from mini_bert.config.validate import problems_of
from mini_bert.errors import ConfigError
from mini_bert.random_streams import RandomStream
from mini_bert.verification.reliability.promise import Experiment, Outcome, Scale

SOURCES = ("parent", "file", "environment", "later file", "variable", "override")
"""From the weakest to the strongest."""

_VALUES: dict[str, tuple[Any, ...]] = {
    "hidden_size": (12, 24, 36, 48, 60, 72),
    "num_attention_heads": (1, 2, 3, 4, 6, 12),
    "labels": ((), ("a", "b"), ("c", "d"), ("e", "f"), ("g", "h"), ("i, j", "k")),
    "batch_size": (4, 8, 16, 32, 64, 128),
    "shards": (1, 2, 3, 4, 5, 6),
    "in_flight": ("auto", 1, 2, 3, 4, 5),
    "strip_accents": (None, True, False, None, True, False),
    "corpus": (("a",), ("b", "c"), ("d=2",), ("e, f",), ("my/*.txt",), ("g",)),
    "max_skipped": (6, 7, 8, 9, 10, 11),
    "lr_cut_after_skips": (None, 1, 2, 3, 4, 2),
    "mask_share": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6),
    "random_share": (0.15, 0.16, 0.17, 0.18, 0.19, 0.1),
    "rope_theta": (10.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    "relative_attention_num_buckets": (4, 8, 16, 24, 48, 64),
    "relative_attention_max_distance": (16, 32, 64, 100, 200, 300),
    "masking.kind": ("token", "whole_word", "span", "ngram", "frequency", "pmi"),
    "curriculum.kind": ("none", "length", "rarity", "length", "none", "rarity"),
    "patterns": (("a",), ("b", "c"), (".*ing",), ("e, f",), ("g",), ("h|i",)),
    "milestones": ((), (0,), (1, 10), (2,), (3, 30), (4,)),
    "adaptive_range": ((0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (0.6, 0.7)),
}
"""Where values have to fit to others, or are of several types; by the setting's name, or by section and name."""


class Setting(NamedTuple):
    """One setting of the schema."""

    section: str
    name: str
    values: tuple[Any, ...]
    """One for each source; by itself, each is right."""
    kind: type
    """What a value is: a list (`tuple`), `str`, or anything else."""

    @property
    def full_name(self) -> str:
        """`train.lr`."""
        return f"{self.section}.{self.name}"


def settings() -> list[Setting]:
    """All that can be set."""
    found = []
    for section, values in Config().to_dict().items():
        kind: Any = Config.model_fields[section].annotation
        for name in values:
            annotation = kind.model_fields[name].annotation
            parts = list(_parts(annotation))
            own = _VALUES.get(f"{section}.{name}") or _VALUES.get(name) or _values(parts)
            plain = tuple if isinstance(kind.model_fields[name].default, tuple) else str if str in parts else object
            found.append(Setting(section, name, own, plain))
    return found


def precedence(scale: Scale, folder: Path) -> Outcome:
    """Every setting, from every set of sources: the strongest wins, and is named as the origin."""
    outcome, chosen = Outcome(), settings()
    subsets = [subset for size in range(1, 7) for subset in combinations(range(6), size)]
    for number, setting in enumerate(chosen):
        drawn = RandomStream(0, "sources", number).integers(len(subsets), 1)[:, 0]
        for subset in (subsets[place] for place in drawn) if scale.quick else subsets:
            _try_sources(setting, subset, folder, outcome)
        scale.told(number + 1, len(chosen))
    outcome.measured = {"settings": len(chosen), "sets_of_sources": 1 if scale.quick else len(subsets)}
    return outcome


def _try_sources(setting: Setting, subset: Sequence[int], folder: Path, outcome: Outcome) -> None:
    given = {SOURCES[place]: {setting.section: {setting.name: setting.values[place]}} for place in subset}
    other = {setting.section: {setting.name: setting.values[0]}}
    _write(folder / "parent.yaml", given.get("parent", {}), {"here": {}})
    environments = {"here": given.get("environment", {}), "elsewhere": other}
    _write(folder / "file.yaml", {"extends": "parent.yaml", **given.get("file", {})}, environments)
    _write(folder / "later.yaml", given.get("later file", {}), {"elsewhere": other})
    variable = f"MINI_BERT__{setting.section}__{setting.name}".upper()
    variables = {variable: _text(setting.values[SOURCES.index("variable")])} if "variable" in given else {}
    config, origins = resolve(
        [folder / "file.yaml", folder / "later.yaml"],
        given.get("override"),
        environment="here",
        variables=variables,
    )
    value, winner = config.to_dict()[setting.section][setting.name], subset[-1]
    expected = setting.values[winner]
    where = ("parent.yaml", "file.yaml", "(environment here)", "later.yaml", variable, "option")[winner]
    held = value == (list(expected) if isinstance(expected, tuple) else expected) and where in str(
        origins[setting.full_name]
    )
    told = f"{value} from {origins[setting.full_name]}"
    outcome.count(held, f"{setting.full_name} from {', '.join(given)}: {told} instead of {expected} from {where}")


def wrong_settings(scale: Scale, folder: Path) -> Outcome:
    """A mistyped name and an impossible value of every setting, in every kind of source: refused by name and place."""
    outcome, chosen = Outcome(), settings()
    for number, setting in enumerate(chosen):
        if scale.quick and number % 8:
            continue
        mistyped = {setting.section: {f"{setting.name[:-1]}xx": setting.values[0]}}
        impossible = {setting.section: {setting.name: {"a": 1} if setting.kind in (str, tuple) else "no such thing"}}
        for values in (mistyped, impossible):
            _try_wrong(setting, values, folder, outcome)
        scale.told(number + 1, len(chosen))
    return outcome


def _try_wrong(setting: Setting, values: dict[str, dict[str, Any]], folder: Path, outcome: Outcome) -> None:
    ((name, value),) = values[setting.section].items()
    argument, path = f"{setting.section}.{name}", folder / "wrong.yaml"
    _write(path, values, {})
    outcome.count(_refuses(f"{argument} in {path}, line 2: ", [path]), f"{argument} in a file")
    alone = problems_of(path)
    outcome.count(len(alone) == 1 and argument in alone[0], f"{argument}, validated: {alone}")
    _write(path, {}, {"here": values})
    outcome.count(_refuses(f"{argument} in {path}, line 4: ", [path], environment="here"), f"{argument} in an overlay")
    outcome.count(_refuses(f"{argument}: ", overrides=values), f"{argument} as an option")
    variable = f"MINI_BERT__{setting.section}__{name}".upper()
    if setting.kind is str and name == setting.name:
        return  # any text is a text
    text = "[{a: 1}]" if isinstance(value, dict) else _text(value)
    refused = _refuses(f"{argument} in {variable}: ", variables={variable: text})
    outcome.count(refused, f"{argument} as a variable")


def _refuses(beginning: str, sources: Sequence[Path] = (), **others: Any) -> bool:
    try:
        load_config(sources, **others)
    except ConfigError as error:
        return str(error).startswith(beginning)
    return False


def written_and_read(scale: Scale, folder: Path) -> Outcome:
    """Configurations drawn at random, written in each of three ways and read back."""
    outcome, chosen, count = Outcome(), settings(), scale.of(full=500, quick=20)
    for number in range(count):
        drawn = RandomStream(0, "configurations", number).integers(6, len(chosen), 2)
        overrides = {
            setting.full_name: setting.values[which]
            for setting, (used, which) in zip(chosen, drawn.tolist(), strict=True)
            if used < 2
        }
        try:
            config, origins = resolve([], overrides)
        except ConfigError:  # settings that do not go together
            continue
        for how, text in {
            "plain": dump_config(config),
            "explained": dump_config(config, explain=True),
            "with origins": dump_config(config, origins=origins),
        }.items():
            (folder / "again.yaml").write_text(text, encoding="utf-8")
            try:
                held = load_config([folder / "again.yaml"]) == config
            except ConfigError:
                held = False
            outcome.count(held, f"configuration {number}, {how}: not the same comes back")
        scale.told(number + 1, count)
    return outcome


def _write(path: Path, values: Mapping[str, Any], environments: Mapping[str, Any]) -> None:
    content = {**values, **({"environments": environments} if environments else {"environments": None})}
    path.write_text(yaml.safe_dump(_plain(content), sort_keys=False), encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _text(value: Any) -> str:
    """A value as a variable holds it."""
    if isinstance(value, tuple):
        items = [str(item) for item in value]
        plain = items and not any("," in item for item in items)
        return ",".join(items) if plain else yaml.safe_dump(list(value), default_flow_style=True).strip()
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _parts(annotation: Any) -> Iterator[Any]:
    """A type and all that it is made of."""
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)


def _values(parts: Sequence[Any]) -> tuple[Any, ...]:
    """Six values of a type, in turn where it has fewer."""
    words = [part for part in parts if isinstance(part, str)]
    if words:
        listed = any(getattr(part, "__origin__", part) is tuple for part in parts)
        return tuple((words[number % len(words)],) if listed else words[number % len(words)] for number in range(6))
    if bool in parts:
        return (True, False) * 3
    if float in parts:
        return (0.125, 0.25, 0.375, 0.4375, 0.46875, 0.484375)
    return (6, 7, 8, 9, 10, 11) if int in parts else tuple("abcdef")


EXPERIMENTS = (
    Experiment(
        "R10",
        "every setting, from every set of preset or file, overlay, later file, variable and option",
        "the strongest source wins and is named as the origin",
        precedence,
    ),
    Experiment(
        "R10",
        "every setting mistyped and given an impossible value, in every kind of source",
        "refused with its name and, in a file, its line",
        wrong_settings,
    ),
    Experiment(
        "R10",
        "configurations drawn at random, written and read back",
        "the same configuration, in each form",
        written_and_read,
    ),
)
