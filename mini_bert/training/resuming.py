"""Where does this training begin: at step 0, or at a checkpoint of the very same training?"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mini_bert.config.schema import Config, HealthConfig
from mini_bert.data.cache import json_sha256
from mini_bert.errors import CheckpointError, ConfigError, DataError
from mini_bert.interop import manifest
from mini_bert.training.checkpoint_folders import checkpoints, newest_verified, step_of
from mini_bert.training.material import Material

_WITHOUT_EFFECT = {
    "run": {"name", "directory", "threads", "resume", "trackers"},
    "train": {
        "minutes",
        "in_flight",
        "save_every",
        "evaluate_every",
        "log_every",
        "keep_checkpoints",
        "milestones",
        "on_save_error",
        "verify_ranks_every",
        "activation_checkpointing",
    },
    "health": set(HealthConfig.model_fields),
    "evaluation": {"batch_size", "mask_seed"},
    "data": {"held_out_rows"},
}
"""Settings that do not change what is learned: these may differ when a run goes on. Those of `health` do change it, but
only where something goes wrong, and to change them is what one then resumes for."""

_FOLLOWED = {("train", "evaluate_every"), ("evaluation", "mask_seed"), ("data", "held_out_rows")}
"""Settings that do change what is learned where the masking rate follows the held-out accuracy."""

_ORDERED_BY = {("evaluation", "mask_seed")}
"""The same, where a reference model's loss at masks of this seed says which rows are easy."""


class Beginning(NamedTuple):
    """Where a training begins."""

    checkpoint: Path | None = None
    """What it goes on from; None: from nothing."""
    origin: Path | None = None
    """The other run that it branches off."""
    warnings: tuple[str, ...] = ()
    """Why newer checkpoints were passed over."""


def run_folder(config: Config) -> Path:
    """The folder that `run.directory`, `run.name` and `run.resume` mean; a new one where they name none.

    Raises:
        ConfigError: the name is no plain name, or there is none where one is needed.
    """
    runs, name, resume = Path(config.run.directory), config.run.name, config.run.resume
    if name is not None:
        if Path(name).name != name or name in {"", ".", ".."}:
            raise ConfigError("run.name", got=repr(name), expected=f"a plain name: a folder in {runs}")
        return runs / name
    if resume == "auto":
        raise ConfigError("run.resume", got="auto without a run", expected="the name of the run: --run NAME")
    if resume is not None:
        home = home_of(Path(resume))
        if home is None:
            raise ConfigError("run.name", got="none", expected=f"a name for the run that goes on from {resume}")
        return home
    corpus = re.sub(r"[^\w.=-]+", "-", "+".join(config.data.corpus)).strip("-.") or "run"
    name = f"{corpus[:60]}-{time.strftime('%Y%m%d-%H%M%S')}"
    taken = (runs / f"{name}-{number}" for number in range(2, 1000))
    return next(folder for folder in (runs / name, *taken) if not folder.exists())


def find_beginning(config: Config, run: Path) -> Beginning:
    """The checkpoint in or for `run` that `run.resume` means; call it while holding the run's lock.

    Raises:
        ConfigError: the run has checkpoints that were not asked for, or newer ones than the one asked for.
        CheckpointError: no checkpoint holds, or the one asked for does not.
    """
    if config.run.resume is None:
        if checkpoints(run):
            raise ConfigError(
                "run.name",
                got=f"{run}, a run that has checkpoints",
                expected="a new name",
                advice="To go on with that run, add --resume auto.",
            )
        return Beginning()
    asked = Path(config.run.resume)
    if config.run.resume == "auto" or asked.resolve() == run.resolve():
        newest = newest_verified(run)
        if newest.path is None and newest.rejected:
            raise CheckpointError(
                str(run),
                got=f"no checkpoint that holds; of the newest: {newest.rejected[0]}",
                expected="one whose files have the sha256 of its manifest",
                advice="Start again under another --run name.",
            )
        return Beginning(newest.path, None, newest.rejected)
    if not (asked / "config.json").is_file():
        there = checkpoints(home_of(asked) or asked)
        raise CheckpointError(
            "run.resume",
            got=f"{asked}, which is no checkpoint",
            expected="auto, or the folder of a checkpoint",
            advice=f"The newest of that run is {there[0]}." if there else "They are in RUN/checkpoints/.",
        )
    manifest.verify(asked)
    home, newest = home_of(asked), newest_verified(run)
    branches = home is None or home.resolve() != run.resolve()
    if newest.path is not None and (branches or step_of(newest.path) > step_of(asked)):
        raise ConfigError(
            "run.resume",
            got=f"{asked}, while {run} has {newest.path.name}",
            expected="the newest checkpoint of the run",
            advice="Use --resume auto, or give a new --run name to branch off.",
        )
    return Beginning(asked, home if branches else None, newest.rejected)


def home_of(path: Path) -> Path | None:
    """The run that a checkpoint's path lies in, or that the path is."""
    if (path / "checkpoints").is_dir():
        return path
    return path.parent.parent if path.parent.name == "checkpoints" else None


def check_same_training(config: Config, saved: Mapping[str, Any], checkpoint: Path) -> Config:
    """The configuration to go on with: the new one, with the saved number of steps.

    Raises:
        ConfigError: a setting that changes what is learned differs from the saved one; the message names it.
    """
    then = Config(**saved).to_dict()  # what was not there yet was as it is by default
    without_effect = _without_effect(config)
    for section, settings in config.to_dict().items():
        for name, value in settings.items():
            before = then[section][name]
            if value == before or (section, name) in without_effect:
                continue
            if (section, name) == ("train", "steps") and value is None:
                continue
            raise ConfigError(
                f"{section}.{name}",
                got=repr(value),
                expected=f"{before!r}, as {checkpoint} was trained with",
                advice="A resumed run, or a branch of one, keeps the settings that it began with. For others, begin "
                "anew: another --run, without --resume.",
            )
    return with_steps(config, int(saved["train"]["steps"]))


def check_same_data(manifest: Mapping[str, Any], material: Material, checkpoint: Path) -> None:
    """Raise DataError where the texts or the vocabulary are not those that the checkpoint was trained on."""
    for name, now in (
        ("tokenizer_sha256", material.tokenizer.fingerprint),
        ("data_sha256", data_sha256(material.provenance)),
    ):
        if manifest.get(name) != now:
            raise DataError(
                "data.corpus",
                got=f"{name} {now[:12]}…",
                expected=f"{str(manifest.get(name))[:12]}…, as {checkpoint} was trained with",
                advice="What is learned from has changed: files of the corpus, the choice of examples, or, of "
                "python-docs, the installed packages.",
            )


def check_same_reference(manifest: Mapping[str, Any], facts: Mapping[str, Any], checkpoint: Path) -> None:
    """Raise DataError where the model whose losses order the rows is not the one that the checkpoint was trained by."""
    before, now = (str(facts.get("reference_sha256")) for facts in (manifest, facts))
    if before != now:
        raise DataError(
            "curriculum.reference",
            got=f"a model with the sha256 {now[:12]}…",
            expected=f"{before[:12]}…, as {checkpoint} was trained with",
            advice="A run that has trained on is another reference: name the checkpoint's folder.",
        )


def check_same_word_list(manifest: Mapping[str, Any], facts: Mapping[str, Any], checkpoint: Path) -> None:
    """Raise DataError where the list of words that are masked sooner has changed since the checkpoint was saved."""
    before, now = manifest.get("word_list_sha256"), facts.get("word_list_sha256")
    if before is not None and before != now:
        raise DataError(
            "masking.word_list",
            got=f"words with the sha256 {str(now)[:12]}…",
            expected=f"{str(before)[:12]}…, as {checkpoint} was trained with",
            advice="The file has changed since. For other words, begin anew: another --run, without --resume.",
        )


def with_steps(config: Config, steps: int) -> Config:
    """The configuration with the number of steps settled."""
    return config.model_copy(update={"train": config.train.model_copy(update={"steps": steps, "minutes": None})})


def learning_sha256(config: Config) -> str:
    """The hash of all settings that change what is learned."""
    without_effect = _without_effect(config)
    settings = {
        section: {name: value for name, value in values.items() if (section, name) not in without_effect}
        for section, values in config.to_dict().items()
    }
    return json_sha256(settings)


def _without_effect(config: Config) -> set[tuple[str, str]]:
    """Section and name of each setting that does not change what a run of this configuration learns."""
    settings = {(section, name) for section, names in _WITHOUT_EFFECT.items() for name in names}
    if config.masking.rate_schedule == "adaptive":
        settings -= _FOLLOWED
    if config.curriculum.kind == "loss":
        settings -= _ORDERED_BY
    return settings


def data_sha256(provenance: Mapping[str, Any]) -> str:
    """The hash of what the texts were; of the versions of programs it says nothing."""
    return json_sha256({key: value for key, value in provenance.items() if "versions" not in key})
