"""Everything that is read and could have been written by a stranger: which file, and what opens it."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mini_bert.text.pieces import SPECIALS


class Reader(NamedTuple):
    """One kind of file."""

    file: str
    """What it is called in its folder."""
    surround: Callable[[Path], list[bytes]]
    """Puts into an empty folder whatever lies beside the file; returns contents of the file that are good."""
    open: Callable[[Path], object]
    """Opens the folder, as a program would that was given it."""
    seal: Callable[[Path, bytes], bytes] = lambda folder, content: content
    """Makes the hashes fit that would give a changed content away: whoever can write the file can do that too."""


def _configuration(path: Path) -> None:
    from mini_bert.config.load import dump_config, load_config
    from mini_bert.config.validate import problems_of

    problems_of(path)
    dump_config(load_config([path]), explain=True)


def _configurations(_: Path) -> list[bytes]:
    from mini_bert.config.load import dump_config, load_config

    small = "extends: [model/tiny]\ntrain: {lr: 1e-3, steps: 10}\nenvironments:\n  a: {data: {corpus: [x, 'y=2']}}\n"
    return [small.encode(), dump_config(load_config(["model/debug"]), explain=True).encode()[:1500]]


def _tokenizers(file: str) -> Callable[[Path], list[bytes]]:
    def surround(folder: Path) -> list[bytes]:
        from mini_bert.text.wordpiece import WordPiece

        WordPiece([*SPECIALS, *"abcé漢", *(f"##{letter}" for letter in "abc"), "cab"]).save(folder)
        if file == "vocab.txt":
            (folder / "tokenizer.json").unlink()
        return [(folder / file).read_bytes()]

    return surround


def _tokenizer(folder: Path) -> None:
    from mini_bert.text.wordpiece import WordPiece

    wordpiece = WordPiece.load(folder)
    wordpiece.decode(wordpiece.encode("A cab, ab cé 漢 [MASK]!").ids)


def _torch(folder: Path) -> None:
    from mini_bert.interop import torch_pickle

    for array in torch_pickle.load(folder / "pytorch_model.bin", widen=True).values():
        array.tolist()


def _torch_files(_: Path) -> list[bytes]:
    from mini_bert.verification.reliability.hostile_files.torch_files import (
        NONE,
        archive,
        ordered,
        parameter,
        sequence,
        storage,
        tensor,
    )

    def state(*more: bytes) -> bytes:
        first, second = storage("Float", "0", 6, *more), storage("Long", "1", 4, *more)
        turned = parameter(tensor(first, 0, (3, 2), (1, 3)))
        return ordered({"x": tensor(first), "y": turned, "n": tensor(second, 1, (3,), (1,))})

    one, two = bytes(range(24)), bytes(range(32))
    return [
        archive(state(), {"0": one, "1": two}, byteorder=b"little"),
        sequence(state(NONE), {"0": (6, one), "1": (4, two)}),
    ]


def _safetensors(folder: Path) -> None:
    from mini_bert.interop import safetensors_guard

    for array in safetensors_guard.load(folder / "model.safetensors", widen=True)[0].values():
        array.tolist()


def _safetensors_files(_: Path) -> list[bytes]:
    from mini_bert.interop import safetensors_guard

    arrays = {"a.weight": np.ones((4, 6), np.float32), "half": np.ones(5, np.float16), "none": np.zeros((0, 3))}
    return [
        safetensors_guard.to_bytes(arrays, {"format": "pt"}),
        safetensors_guard.to_bytes({"b": np.arange(3)}, {"step": 3, "of": [1, 2]}),
        safetensors_guard.to_bytes({"c": np.ones(4, np.float32)}, dtype="bfloat16"),
    ]


def _index(folder: Path) -> None:
    from mini_bert.interop import weights

    weights.load(folder)


def _indexes(folder: Path) -> list[bytes]:
    from mini_bert.interop import safetensors_guard

    places = {}
    for number in (1, 2):
        name = f"model-0000{number}-of-00002.safetensors"
        safetensors_guard.save(folder / name, {f"w{number}": np.ones(3, np.float32)})
        places[f"w{number}"] = name
    return [json.dumps({"metadata": {"total_size": 24}, "weight_map": places}).encode()]


def _model_config(folder: Path) -> None:
    from mini_bert.interop import bert_config

    bert_config.to_json(bert_config.read(folder / "config.json").config, "float32", 0)


def _model_configs(_: Path) -> list[bytes]:
    from mini_bert.config.schema import ModelConfig
    from mini_bert.interop import bert_config

    shapes: list[dict[str, Any]] = [{}, {"heads": ("classifier",), "num_labels": 3, "labels": ("a", "b", "c")}]
    return [json.dumps(bert_config.to_json(ModelConfig(**shape), "float32", 0), indent=2).encode() for shape in shapes]


def _token_folder(folder: Path) -> list[bytes]:
    """Three documents, as `data.shard_writer` puts them down, but written by hand: nothing of it is wanted here."""
    import zlib

    from mini_bert.data.shards import FORMAT

    documents, sentences = np.array([0, 8, 14, 20], "<i8"), np.array([0, 3, 8, 14, 20], "<i8")
    contents = {
        "tokens-00000.bin": np.arange(20, dtype="<u2").tobytes(),
        "documents.bin": documents.tobytes(),
        "sentences.bin": sentences.tobytes(),
        "hashes.bin": np.arange(3, dtype="<u8").tobytes(),
        "names.txt": b"one\ntwo\nthree\n",
    }
    files = {}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        files[name] = {
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "crc32_per_mib": [zlib.crc32(content)],
        }
    index = {
        "format": FORMAT,
        "vocab_size": 32,
        "counts": {"documents": 3, "sentences": 4, "tokens": 20},
        "shards": ["tokens-00000.bin"],
        "files": files,
        "tokenizer_sha256": "0" * 64,
        "sha256": "",
    }
    return [_sealed_index(folder, json.dumps(index).encode())]


def _token_files(folder: Path) -> list[bytes]:
    (folder / "index.json").write_bytes(_token_folder(folder)[0])
    return [(folder / "tokens-00000.bin").read_bytes()]


def _sealed_index(_: Path, content: bytes) -> bytes:
    """The content with its own hash, which is over what it says; all else as it is."""
    from mini_bert.data.shards import index_digest

    found = list(re.finditer(rb'"sha256": *"[0-9a-f]*"', content))
    try:
        index = json.loads(content)
        index.pop("sha256")
        own = index_digest(index)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return content
    return (
        content[: found[-1].start()] + f'"sha256": "{own}"'.encode() + content[found[-1].end() :] if found else content
    )


def _tokens(folder: Path) -> None:
    from mini_bert.data.shards import TokenStore

    store = TokenStore(folder)
    len(store.names)
    for start, stop in zip(store.document_offsets[:-1], store.document_offsets[1:], strict=True):
        store.read(int(start), int(stop)).tolist()


def _checkpoint(file: str) -> Callable[[Path], list[bytes]]:
    def surround(folder: Path) -> list[bytes]:
        """A checkpoint of a model of a hundred numbers."""
        import shutil

        from mini_bert.config.schema import ModelConfig
        from mini_bert.model.bert import MiniBERT
        from mini_bert.training.checkpoint import save_checkpoint
        from mini_bert.training.step import TrainingState

        sizes = {"vocab_size": 6, "hidden_size": 2, "num_hidden_layers": 1, "num_attention_heads": 1}
        model = MiniBERT(ModelConfig(**sizes, intermediate_size=2, max_position_embeddings=3))
        state = TrainingState.fresh(model)
        state.step = 3
        progress = {"tokens": 10, "skipped": 0, "best": 1.5, "health": {"lr_scale": 1.0}, "seconds": 0.25}
        saved = save_checkpoint(folder / "run", state, progress, {"config": {"train": {"lr": 1e-3}}})
        for path in saved.iterdir():
            shutil.move(path, folder / path.name)
        shutil.rmtree(folder / "run")
        return [(folder / file).read_bytes()]

    return surround


def _open_checkpoint(folder: Path) -> None:
    from mini_bert.training.checkpoint import load_checkpoint

    load_checkpoint(folder)


def _sealed_state(folder: Path, content: bytes) -> bytes:
    """The content, in a manifest that promises just this."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest["files"]["training_state.json"] = entry
    text = json.dumps(manifest, sort_keys=True, indent=1) + "\n"
    (folder / "manifest.json").write_bytes(_sealed_manifest(folder, text.encode()))
    return content


def _sealed_manifest(_: Path, content: bytes) -> bytes:
    """The content with its own hash, which is over all lines but the one that holds it."""
    line = re.search(rb'\n "manifest_sha256": "[0-9a-f]*",', content)
    if line is None:
        return content
    before, behind = content[: line.start()], content[line.end() :]
    own = hashlib.sha256(before + behind).hexdigest()
    return before + f'\n "manifest_sha256": "{own}",'.encode() + behind


def _run(file: str) -> Callable[[Path], list[bytes]]:
    def surround(folder: Path) -> list[bytes]:
        """A run that has ended, without its checkpoints."""
        from mini_bert.config.load import dump_config, load_config
        from mini_bert.training import run_log, run_manifest

        config = load_config(["training/debugging"])
        (folder / "config.yaml").write_text(dump_config(config))
        records: list[dict[str, Any]] = [
            {"kind": "start", "step": 0, "steps": 40, "parameters": 100, "time": "2025-01-01T00:00:00.000+00:00"},
            *({"kind": "train", "step": step, "loss": 6.5 - step, "lr": 1e-3, "phase": "a"} for step in (1, 2)),
            {"kind": "evaluation", "step": 2, "loss": 4.25, "accuracy": None},
        ]
        (folder / "metrics.jsonl").write_bytes(b"".join(json.dumps(record).encode() + b"\n" for record in records))
        with run_log.RunLog(folder / run_log.FILE_NAME) as log:
            log.info("started", step=0)
            log.warning("spike", loss=9.5)
        run_manifest.begin(
            folder, config, {"environment": {"numpy": "2"}, "config_sha256": "0"}, first_step=0, threads=1
        )
        run_manifest.end(folder, step=2, sha256="0", seconds=1.5, ended="finished")
        return [(folder / file).read_bytes()]

    return surround


def _open_run(folder: Path) -> None:
    from mini_bert.training import metrics_log, run_folders, run_manifest

    run_folders.summary(run_folders.read_contents(folder))
    run_manifest.read(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a torn line
        metrics_log.read_metrics(folder / "metrics.jsonl")


READERS = {
    "configuration": Reader("mine.yaml", _configurations, lambda folder: _configuration(folder / "mine.yaml")),
    "tokenizer.json": Reader("tokenizer.json", _tokenizers("tokenizer.json"), _tokenizer),
    "vocab.txt": Reader("vocab.txt", _tokenizers("vocab.txt"), _tokenizer),
    "tokenizer_config.json": Reader("tokenizer_config.json", _tokenizers("tokenizer_config.json"), _tokenizer),
    "pytorch_model.bin": Reader("pytorch_model.bin", _torch_files, _torch),
    "model.safetensors": Reader("model.safetensors", _safetensors_files, _safetensors),
    "index of shards": Reader("model.safetensors.index.json", _indexes, _index),
    "config.json": Reader("config.json", _model_configs, _model_config),
    "index of tokens": Reader("index.json", _token_folder, _tokens, _sealed_index),
    "tokens": Reader("tokens-00000.bin", _token_files, _tokens),
    "manifest": Reader("manifest.json", _checkpoint("manifest.json"), _open_checkpoint, _sealed_manifest),
    "training_state.json": Reader(
        "training_state.json", _checkpoint("training_state.json"), _open_checkpoint, _sealed_state
    ),
    "metrics.jsonl": Reader("metrics.jsonl", _run("metrics.jsonl"), _open_run),
    "manifest of a run": Reader("manifest.json", _run("manifest.json"), _open_run),
    "run.log": Reader("run.log", _run("run.log"), _open_run),
}
"""By what they are called in reports."""
