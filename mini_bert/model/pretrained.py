"""A model as a folder that Hugging Face's transformers can open: `config.json`, `model.safetensors`, the tokenizer.

`config.json` has the fields of Hugging Face's `BertConfig`, and one of our own where no class of theirs has just these
heads: `heads`. A folder with a `manifest.json` is a checkpoint: what is read of it is compared with the manifest first.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from mini_bert.atomic_files import storage_errors, sync, write_synced
from mini_bert.errors import CheckpointError, InvalidInputError
from mini_bert.interop import huggingface, manifest, safetensors_guard

if TYPE_CHECKING:
    from mini_bert.config.schema import ModelConfig
    from mini_bert.model.bert import MiniBERT
    from mini_bert.model.parameters import Parameters

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
_TOKENIZER_NAMES = ("tokenizer.json", "vocab.txt", "tokenizer_config.json")
_DTYPES = ("float32", "float64", "complex128")

_ARCHITECTURES: dict[str, tuple[str, ...]] = {
    "BertModel": (),
    "BertForMaskedLM": ("mlm",),
    "BertForPreTraining": ("mlm", "nsp"),
    "BertForNextSentencePrediction": ("nsp",),
    "BertForSequenceClassification": ("classifier",),
    "BertForTokenClassification": ("token_classifier",),
}
_CLASSIFIERS = ("classifier", "token_classifier")

_REQUIRED = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
)
_OPTIONAL = (
    "type_vocab_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "layer_norm_eps",
    "initializer_range",
)
_FAITHFUL = {
    "model_type": "bert",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}
"""Settings of BertConfig that change the mathematics, with the one value that is ours."""


def save_pretrained(model: MiniBERT, folder: str | Path) -> None:
    """Write `model` into `folder`, which is made if need be; other files there stay as they are.

    All files are written beside the folder first, and moved into it when all are whole.

    Raises:
        InvalidInputError: `folder` is a checkpoint of a run, whose manifest would no longer be true.
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
        write_model_files(model, staged)
        with storage_errors(target):
            for path in sorted(staged.iterdir()):
                path.replace(target / path.name)
        sync(target)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def write_model_files(model: MiniBERT, folder: Path) -> None:
    """Write a model's files into a folder that nobody reads yet, each flushed to the disk.

    Raises:
        StorageError: writing failed.
    """
    weights = huggingface.to_hugging_face(model.parameters, model.parameters.table)
    write_synced(folder / WEIGHTS_NAME, safetensors_guard.to_bytes(weights, {"format": "pt"}))
    write_synced(folder / CONFIG_NAME, (json.dumps(_to_json(model), indent=2) + "\n").encode())
    if model.tokenizer is not None:
        model.tokenizer.save(folder)


def from_pretrained(
    folder: str | Path,
    dtype: DTypeLike = np.float32,
    heads: Sequence[str] | None = None,
    num_labels: int | None = None,
    seed: int = 0,
) -> MiniBERT:
    """The model in `folder`, a checkpoint or a Hugging Face folder, with its tokenizer if there is one.

    Args:
        folder: holds `config.json` and `model.safetensors`.
        dtype: of the model's parameters, whatever the file's is.
        heads: the heads that the model shall have; None: those of the folder. One that the folder lacks is made new.
        num_labels: classes of a new classifier head.
        seed: of new heads.

    Raises:
        CheckpointError: something is missing, damaged, or not a BERT that can be computed here.
        DataError: the tokenizer's files are damaged.
        ConfigError: `heads` or `num_labels` are impossible.
    """
    from mini_bert.config.schema import ModelConfig
    from mini_bert.model.bert import MiniBERT
    from mini_bert.model.parameters import Parameters

    folder = Path(folder)
    if np.dtype(dtype).name not in _DTYPES:
        raise InvalidInputError("dtype", got=np.dtype(dtype).name, expected=f"one of {', '.join(_DTYPES)}")
    if (folder / manifest.FILE_NAME).exists():
        manifest.verify(folder, only=(CONFIG_NAME, WEIGHTS_NAME, *_TOKENIZER_NAMES))
    saved = _read_config(folder)
    config = ModelConfig(
        **{
            **saved.model_dump(),
            "heads": saved.heads if heads is None else tuple(heads),
            "num_labels": saved.num_labels if num_labels is None else num_labels,
        }
    )
    parameters = Parameters(config, np.dtype(dtype))
    _fill(parameters, saved, folder / WEIGHTS_NAME, fresh_seed=None if heads is None else seed)
    model = MiniBERT.from_parameters(parameters)
    if any((folder / name).exists() for name in _TOKENIZER_NAMES[:2]):
        from mini_bert.text.wordpiece import WordPiece

        model.tokenizer = WordPiece.load(folder)
        if model.tokenizer.vocab_size > config.vocab_size:
            raise CheckpointError(
                f"the tokenizer in {folder}",
                got=f"{model.tokenizer.vocab_size} pieces",
                expected=f"at most the {config.vocab_size} that the model knows",
            )
    return model


def _fill(parameters: Parameters, saved: ModelConfig, path: Path, *, fresh_seed: int | None) -> None:
    """Copy the file's tensors; parts of heads that it lacks are made from `fresh_seed`, where there is one."""
    config, rows = parameters.config, parameters.table
    arrays, _ = safetensors_guard.load(path, widen=True)
    if any(head in config.heads and head not in saved.heads for head in _CLASSIFIERS):
        # Both kinds of classifier bear the same names in a file; there, they mean the file's own kind.
        arrays = {name: array for name, array in arrays.items() if _part(name) != "classifier"}
    imported = huggingface.from_hugging_face(arrays, rows, str(path))

    present = {_part(row.hugging_face) for row in rows if row.name in imported.arrays}
    for row in rows:
        part = _part(row.hugging_face)
        fresh = fresh_seed is not None and part != "encoder" and part not in present
        if row.name in imported.missing and not fresh:
            raise CheckpointError(
                str(path),
                got=f"no tensor {row.hugging_face} ({row.name})",
                expected=f"every tensor of the encoder and of heads {list(config.heads)}",
                advice="A head that the file lacks altogether is made new when it is named in heads=….",
            )
    foreign = [name for name in imported.unexpected if _part(name) == "encoder"]
    if foreign:
        raise CheckpointError(
            str(path),
            got=f"{len(foreign)} tensors that config.json does not explain, among them {foreign[0]}",
            expected="the tensors of a faithful BERT of this size",
        )
    if imported.missing:
        from mini_bert.model.initialization import initialize

        assert fresh_seed is not None
        initialize(parameters, fresh_seed)
    for name, array in imported.arrays.items():
        if not np.isfinite(array).all():
            raise CheckpointError(
                str(path),
                got=f"NaN or infinity in {name}",
                expected="finite weights",
                advice="The training that wrote them had diverged.",
            )
        parameters[name][...] = array


def _part(name: str) -> str:
    """What a tensor of a Hugging Face file belongs to: a head's part, or the encoder."""
    for part in ("cls.predictions", "cls.seq_relationship", "pooler", "classifier"):
        if huggingface.bare(name).startswith(f"{part}."):
            return part
    return "encoder"


def _to_json(model: MiniBERT) -> dict[str, Any]:
    config = model.config
    architecture = next((name for name, heads in _ARCHITECTURES.items() if set(heads) == set(config.heads)), None)
    fields: dict[str, Any] = {
        "model_type": "bert",
        "architectures": [architecture or "BertModel"],
        **{name: getattr(config, name) for name in (*_REQUIRED, *_OPTIONAL)},
        "pad_token_id": 0 if model.tokenizer is None else model.tokenizer.pad_id,
        "tie_word_embeddings": True,
        "dtype": np.dtype(model.dtype).name,
    }
    if architecture is None:
        fields["heads"] = list(config.heads)
    if any(head in config.heads for head in _CLASSIFIERS):
        labels = [f"LABEL_{number}" for number in range(config.num_labels)]
        fields["id2label"] = {str(number): label for number, label in enumerate(labels)}
        fields["label2id"] = {label: number for number, label in enumerate(labels)}
    return fields


def _read_config(folder: Path) -> ModelConfig:
    """The folder's `config.json` as our schema has it."""
    from mini_bert.config.schema import ModelConfig

    path = folder / CONFIG_NAME
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(
            str(path),
            got=error.strerror,
            expected="the config.json of a model folder",
            advice="Name a checkpoint, a Hugging Face folder or a run.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(str(path), got=f"no JSON ({error})", expected="the configuration of a BERT") from error
    if not isinstance(fields, dict):
        raise CheckpointError(str(path), got=f"a JSON {type(fields).__name__}", expected="a JSON object")
    for name, value in _FAITHFUL.items():
        if fields.get(name, value) not in (value, None):
            raise CheckpointError(
                f"{name} in {path}",
                got=repr(fields[name]),
                expected=repr(value),
                advice="Only the faithful BERT loads.",
            )
    absent = [name for name in _REQUIRED if name not in fields]
    if absent:
        raise CheckpointError(str(path), got=f"no {absent[0]}", expected="the configuration of a BERT")

    shape = {name: fields[name] for name in (*_REQUIRED, *_OPTIONAL) if name in fields}
    labels = fields.get("id2label")
    shape["num_labels"] = len(labels) if isinstance(labels, dict) and labels else fields.get("num_labels", 2)
    shape["heads"] = _declared_heads(fields, path)
    try:
        return ModelConfig(**shape)
    except ValueError as error:
        raise CheckpointError(
            str(path), got=f"a setting that is refused ({error})", expected="a faithful BERT"
        ) from error


def _declared_heads(fields: dict[str, Any], path: Path) -> tuple[str, ...]:
    if "heads" in fields:
        heads = fields["heads"]
        return tuple(heads) if isinstance(heads, list) else (heads,)
    names = fields.get("architectures") or ["BertModel"]
    if not isinstance(names, list) or names[0] not in list(_ARCHITECTURES):
        raise CheckpointError(f"architectures in {path}", got=names, expected=f"one of {', '.join(_ARCHITECTURES)}")
    return _ARCHITECTURES[names[0]]
