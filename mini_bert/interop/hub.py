"""Where on this machine lie the files of a model that is named as on the Hugging Face Hub, `organisation/model`?

`huggingface_hub` (extra `hub`) downloads them into its own cache, which transformers shares. Only configuration,
tokenizer and one set of weights are fetched: never code, never the same weights in a second format. Without a network,
what lies in the cache is taken. `organisation/model@revision` names a branch, a tag or a commit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from mini_bert.errors import CheckpointError, MissingExtraError

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w.-]+)?", re.ASCII)

_SMALL_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt")
_WEIGHTS = (
    r"model\.safetensors",
    r"model\.safetensors\.index\.json|model-\d+-of-\d+\.safetensors",
    r"pytorch_model\.bin",
    r"pytorch_model\.bin\.index\.json|pytorch_model-\d+-of-\d+\.bin",
)
"""In the order in which they are preferred, as in `weights`."""

_LONGEST = 96
"""Characters of `organisation/model` on the Hub."""

_PATIENCE = 10.0
"""Seconds until a Hub that does not answer counts as out of reach."""


def is_name(model: str | Path) -> bool:
    """Whether this is a name on the Hub, and no path: nothing is there, and no folder in which it could be."""
    path = Path(model)
    repository = str(model).partition("@")[0]
    possible = _NAME.fullmatch(str(model)) and len(repository) <= _LONGEST and not re.search(r"--|\.\.", repository)
    return bool(possible) and not path.exists() and not path.parent.is_dir()


def needed_files(files: Iterable[str], source: str) -> list[str]:
    """Of a repository's files those that a model here consists of.

    Raises:
        CheckpointError: it has no weights that can be read here.
    """
    files = list(files)
    for pattern in _WEIGHTS:
        found = [name for name in files if re.fullmatch(pattern, name)]
        if found:
            return sorted([name for name in files if name in _SMALL_FILES] + found)
    raise CheckpointError(
        source,
        got=f"no weights among its {len(files)} files",
        expected="model.safetensors or pytorch_model.bin, whole or in shards",
        advice="Weights of TensorFlow, Flax, ONNX and GGUF are not read.",
    )


def fetch(name: str) -> Path:
    """The folder with a model's files, downloaded unless they are in the cache.

    Raises:
        MissingExtraError: `huggingface_hub` is not installed.
        CheckpointError: there is no such model, it may not be read, it is no model, or there is no network.
    """
    try:
        from huggingface_hub import HfApi, snapshot_download
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
    except ImportError as error:
        raise MissingExtraError(
            "MODEL",
            got=f"{name!r}, which is no folder here; as a name on the Hugging Face Hub it needs huggingface_hub",
            expected="the extra `hub`",
            advice='Install it: pip install "mini-bert[hub]". Or download the files and name their folder.',
        ) from error
    repository, _, revision = name.partition("@")
    place = f"{repository} on the Hugging Face Hub"
    try:
        listed = HfApi().model_info(repository, revision=revision or None, timeout=_PATIENCE)
        files = needed_files([file.rfilename for file in listed.siblings or ()], place)
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=files))
    except CheckpointError:
        raise
    except GatedRepoError as error:
        raise CheckpointError(
            place,
            got="a model that asks for your consent",
            expected="one that is open to you",
            advice="Accept its terms on its page, then log in: hf auth login.",
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            place,
            got="no model of this name",
            expected="a folder here, a run, or a model as its page on the Hub is called",
            advice="Private ones need hf auth login.",
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(place, got=f"no revision {revision!r}", expected="a branch, a tag or a commit") from error
    except Exception as error:  # no network, in the words of whichever library lies under this one
        folder = _in_cache(repository, revision)
        if folder is None:
            raise CheckpointError(
                place,
                got=f"no connection ({type(error).__name__}), and no copy from an earlier download",
                expected="a network, or the path of a folder",
                advice="Download the files on a machine that has one, and name their folder.",
            ) from error
        return folder


def _in_cache(repository: str, revision: str) -> Path | None:
    """What an earlier download has left, if it is a whole model."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(repository, "config.json", revision=revision or None)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    try:
        needed_files([path.name for path in folder.iterdir()], repository)
    except CheckpointError:
        return None
    return folder
