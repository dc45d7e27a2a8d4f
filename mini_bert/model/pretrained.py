"""A model as a folder that Hugging Face's transformers can open: `config.json`, `model.safetensors`, the tokenizer.

Reading takes any folder of a BERT that transformers writes or wrote (docs/guide/huggingface.md lists which). A folder
with a `manifest.json` is a checkpoint: what is read of it is compared with the manifest first.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from mini_bert.atomic_files import storage_errors, sync, write_synced
from mini_bert.errors import CheckpointError, DataError, InvalidInputError
from mini_bert.interop import bert_config, hub, huggingface, manifest, safetensors_guard, weights
from mini_bert.interop.bert_config import CLASSIFIERS
from mini_bert.model.shipped import shipped_model
from mini_bert.ops.contract import Array

if TYPE_CHECKING:
    from mini_bert.config.schema import ModelConfig
    from mini_bert.model.bert import MiniBERT
    from mini_bert.model.parameters import Parameters

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
_TOKENIZER_NAMES = ("tokenizer.json", "vocab.txt", "tokenizer_config.json")
_DTYPES = ("float32", "float64", "complex128")


class Origin(NamedTuple):
    """Where a model was read from, and what was found there."""

    folder: Path
    weights: Path
    """The file with the tensors, or the index of several."""
    arrays: Mapping[str, Array]
    """Every tensor of the file; float16 and bfloat16 as float32."""
    architecture: str | None
    """The class of transformers that the folder names, or that has the heads that were found."""
    named: bool
    """Whether the folder names it."""
    heads: tuple[str, ...]
    left_behind: tuple[str, ...]
    """Tensors of heads that were not asked for."""


def save_pretrained(model: MiniBERT, folder: str | Path, dtype: str | None = None) -> None:
    """Write `model` into `folder`, which is made if need be; other files there stay as they are.

    All files are written beside the folder first, and moved into it when all are whole.

    Args:
        model: with its tokenizer, if it has one.
        folder: where to.
        dtype: float16, bfloat16, float32 or float64: round the numbers to it; None: that of the model.

    Raises:
        InvalidInputError: `folder` is a checkpoint of a run, whose manifest would no longer be true; or `dtype` does
            not exist or cannot hold the numbers.
        StorageError: writing failed; no file of `folder` was harmed by a full disk.
    """
    target = Path(folder)
    if (target / manifest.FILE_NAME).exists():
        raise InvalidInputError("folder", got=f"the checkpoint {target}", expected="a folder that is no checkpoint")
    staged = target.parent / f".tmp-{target.name}-{os.getpid()}-{secrets.token_hex(4)}"
    with storage_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        staged.mkdir()
    try:
        write_model_files(model, staged, dtype)
        with storage_errors(target):
            for path in sorted(staged.iterdir()):
                path.replace(target / path.name)
        sync(target)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def write_model_files(model: MiniBERT, folder: Path, dtype: str | None = None) -> None:
    """Write a model's files into a folder that nobody reads yet, each flushed to the disk.

    Raises:
        InvalidInputError: `dtype` cannot hold the numbers.
        StorageError: writing failed.
    """
    tensors = huggingface.to_hugging_face(model.parameters, model.parameters.table)
    pad_id = 0 if model.tokenizer is None else model.tokenizer.pad_id
    fields = bert_config.to_json(model.config, dtype or np.dtype(model.dtype).name, pad_id)
    write_synced(folder / WEIGHTS_NAME, safetensors_guard.to_bytes(tensors, {"format": "pt"}, dtype=dtype))
    write_synced(folder / CONFIG_NAME, (json.dumps(fields, indent=2) + "\n").encode())
    if model.tokenizer is not None:
        model.tokenizer.save(folder)


def from_pretrained(
    folder: str | Path,
    dtype: DTypeLike = np.float32,
    heads: Sequence[str] | None = None,
    num_labels: int | None = None,
    seed: int = 0,
    *,
    with_tokenizer: bool = True,
) -> MiniBERT:
    """The model in `folder`, a checkpoint or a Hugging Face folder, with its tokenizer if there is one.

    Args:
        folder: holds `config.json` and weights; or the name of a model that comes with the package, `mini-bert`; or a
            name on the Hugging Face Hub, `organisation/model`.
        dtype: of the model's parameters, whatever the file's is.
        heads: the heads that the model shall have; None: those of the folder. One that the folder lacks is made new.
        num_labels: classes of a new classifier head.
        seed: of new heads.
        with_tokenizer: False leaves the tokenizer's files alone, for a folder whose tokenizer is not BERT's.

    Raises:
        CheckpointError: something is missing, damaged, or not a BERT that can be computed here.
        DataError: the tokenizer's files are damaged, or ask for another tokenizer.
        ConfigError: `heads` or `num_labels` are impossible.
        MissingExtraError: `folder` is a name on the Hub, and `huggingface_hub` is not installed.
    """
    return read_pretrained(folder, dtype, heads, num_labels, seed, with_tokenizer=with_tokenizer)[0]


def read_pretrained(
    folder: str | Path,
    dtype: DTypeLike | None = np.float32,
    heads: Sequence[str] | None = None,
    num_labels: int | None = None,
    seed: int | None = 0,
    *,
    with_tokenizer: bool = True,
) -> tuple[MiniBERT, Origin]:
    """As `from_pretrained`, and what was found in the folder.

    Args:
        folder: see `from_pretrained`, as for all that is not said here.
        dtype: None: float64 where the file holds some, else float32, so that nothing is lost.
        heads: heads of the model.
        num_labels: classes of a new head.
        seed: None: a head that the folder lacks is an error.
        with_tokenizer: whether to read it.
    """
    from mini_bert.model.bert import MiniBERT
    from mini_bert.model.parameters import Parameters

    folder = _place_of(folder)
    if dtype is not None and np.dtype(dtype).name not in _DTYPES:
        raise InvalidInputError("dtype", got=np.dtype(dtype).name, expected=f"one of {', '.join(_DTYPES)}")
    if (folder / manifest.FILE_NAME).exists():
        manifest.verify(folder, only=(CONFIG_NAME, WEIGHTS_NAME, *_TOKENIZER_NAMES))
    declared = bert_config.read(folder / CONFIG_NAME, wanted=heads)
    arrays, file = weights.load(folder, widen=True)
    own = huggingface.heads_of(arrays, str(file), heads) if declared.heads is None else declared.heads
    config = _wanted_config(declared.config, own, arrays, heads, num_labels)
    if "mlm" in config.heads and not declared.tied:
        raise CheckpointError(
            f"tie_word_embeddings in {folder / CONFIG_NAME}",
            got="False",
            expected="True: the decoder is the table of token embeddings, as in BERT",
            advice="Its encoder alone can be read: heads=().",
        )
    if dtype is None:
        dtype = max((array.dtype for array in arrays.values() if array.dtype.kind == "f"), default=np.dtype(np.float32))
    parameters = Parameters(config, np.dtype(dtype))
    left_behind = _fill(parameters, own, arrays, str(file), fresh_seed=None if heads is None else seed)
    model = MiniBERT.from_parameters(parameters)
    if with_tokenizer and any((folder / name).exists() for name in _TOKENIZER_NAMES[:2]):
        model.tokenizer = _read_tokenizer(folder, config)
    named = declared.architecture
    return model, Origin(
        folder, file, arrays, named or bert_config.architecture_of(own), named is not None, own, left_behind
    )


def _place_of(name: str | Path) -> Path:
    """The folder that is meant: a model's own folder first, then a model that comes along, then one on the Hub."""
    path = Path(name)
    if not (path / CONFIG_NAME).is_file() and (shipped := shipped_model(name)) is not None:
        return shipped
    return hub.fetch(str(name)) if hub.is_name(name) else path


def _wanted_config(
    declared: ModelConfig,
    own: tuple[str, ...],
    arrays: Mapping[str, Array],
    heads: Sequence[str] | None,
    num_labels: int | None,
) -> ModelConfig:
    """The folder's configuration with the heads, the pooler and the classes that the model shall have."""
    from mini_bert.config.schema import ModelConfig

    wanted = own if heads is None else tuple(heads)
    classes = declared.num_labels if num_labels is None else num_labels
    same_classifier = all(head in own for head in wanted if head in CLASSIFIERS) and classes == declared.num_labels
    settings = {
        "heads": wanted,
        "pooler": bool(wanted) or any(huggingface.part_of(name) == "pooler" for name in arrays),
        "num_labels": classes,
        "labels": declared.labels if same_classifier and set(wanted) & set(CLASSIFIERS) else (),
    }
    return ModelConfig(**{**declared.model_dump(), **settings})


def _fill(
    parameters: Parameters, own: tuple[str, ...], arrays: Mapping[str, Array], source: str, *, fresh_seed: int | None
) -> tuple[str, ...]:
    """Copy the file's tensors; parts of heads that it lacks are made from `fresh_seed`, where there is one.

    Returns the names of the tensors that belong to heads which the model does not have.
    """
    config, rows = parameters.config, parameters.table
    part_of = huggingface.part_of
    # Both kinds of classifier bear the same names in a file; there, they mean the file's own kind.
    other_kind = any(head in config.heads and head not in own for head in CLASSIFIERS)
    apart = {name for name in arrays if other_kind and part_of(name) == "classifier"}
    usable = {name: array for name, array in arrays.items() if name not in apart}
    imported = huggingface.from_hugging_face(usable, rows, source)

    present = {part_of(row.hugging_face) for row in rows if row.name in imported.arrays}
    for row in rows:
        part = part_of(row.hugging_face)
        fresh = fresh_seed is not None and part != "encoder" and part not in present
        if row.name in imported.missing and not fresh:
            raise CheckpointError(
                source,
                got=f"no tensor {row.hugging_face} ({row.name})",
                expected=f"every tensor of the encoder and of heads {list(config.heads)}",
                advice="A head that the file lacks altogether is made new by from_pretrained(…, heads=…).",
            )
    foreign = [name for name in imported.unexpected if part_of(name) == "encoder"]
    if foreign:
        raise CheckpointError(
            source,
            got=f"{len(foreign)} tensors that config.json does not explain, among them {foreign[0]}",
            expected="the tensors of a model as config.json describes it",
        )
    if imported.missing:
        from mini_bert.model.initialization import initialize

        assert fresh_seed is not None
        initialize(parameters, fresh_seed)
    for name, array in imported.arrays.items():
        if not np.isfinite(array).all():
            raise CheckpointError(
                source,
                got=f"NaN or infinity in {name}",
                expected="finite weights",
                advice="The training that wrote them had diverged.",
            )
        parameters[name][...] = array
    return tuple(sorted({*imported.unexpected, *apart}))


def _read_tokenizer(folder: Path, config: ModelConfig) -> Any:
    from mini_bert.text.wordpiece import WordPiece

    try:
        tokenizer = WordPiece.load(folder)
    except DataError as error:
        advice = f"{error.advice} The model alone can be read: with_tokenizer=False, or convert --without-tokenizer."
        raise DataError(error.argument, got=error.got, expected=error.expected, advice=advice.strip()) from error
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"the tokenizer in {folder}",
            got=f"{tokenizer.vocab_size} pieces",
            expected=f"at most the {config.vocab_size} that the model knows",
        )
    return tokenizer
