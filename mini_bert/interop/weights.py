"""Which file of a folder holds a model's weights, and what is in it?

transformers writes one of four; where there are several, it reads the first of this order, and so do we.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from numpy.typing import NDArray

from mini_bert.errors import CheckpointError
from mini_bert.interop import sharded

FILE_NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)

_FOREIGN = {
    "tf_model.h5": "With transformers before 5 and TensorFlow: BertModel.from_pretrained(FOLDER, from_tf=True), then "
    "save_pretrained.",
    "flax_model.msgpack": "With transformers before 5 and Flax: BertModel.from_pretrained(FOLDER, from_flax=True), "
    "then save_pretrained.",
    "*model.ckpt*": "With transformers before 5 and TensorFlow: transformers-cli convert --model_type bert "
    "--tf_checkpoint bert_model.ckpt --config bert_config.json --pytorch_dump_output pytorch_model.bin.",
    "*.gguf": "Its numbers may be rounded, and that cannot be undone: take the model that it was made of.",
    "*.onnx": "It is a graph without the names of the parameters: take the model that it was made of.",
    "*.safetensors": "If these are the weights, rename the file to model.safetensors.",
    "*.bin": "If these are the weights, rename the file to pytorch_model.bin.",
}
"""What else may lie there, and how it becomes what can be read here."""


def load(folder: Path, *, widen: bool = True) -> tuple[dict[str, NDArray[Any]], Path]:
    """The tensors of a model folder, name → array, and the file (or index) that gave them.

    With `widen`, float16 and bfloat16 become float32 (which holds each of their values exactly).

    Raises:
        CheckpointError: there are no weights, or they are damaged, or hold anything but tensors.
    """
    try:
        path = next((folder / name for name in FILE_NAMES if (folder / name).is_file()), None)
        if path is None:
            _refuse_folder(folder)
        if _is_pointer(path):
            raise CheckpointError(
                str(path),
                got="a pointer of Git LFS",
                expected="the weights themselves",
                advice="Fetch them with: git lfs pull.",
            )
    except OSError as error:
        raise CheckpointError(str(folder), got=error.strerror or error, expected="a readable folder") from error
    if path.name.endswith(".index.json"):
        return sharded.load(path, widen=widen), path
    return sharded.load_file(path, widen=widen), path


def _is_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(24) == b"version https://git-lfs."


def _refuse_folder(folder: Path) -> NoReturn:
    got, advice = "no weights" if folder.is_dir() else "no folder", "Name a model folder."
    for pattern, way_out in _FOREIGN.items():
        found = sorted(path.name for path in folder.glob(pattern) if path.is_file())
        if found:
            got, advice = f"{found[0]} and no other weights", way_out
            break
    raise CheckpointError(str(folder), got=got, expected=f"one of {', '.join(FILE_NAMES)}", advice=advice)
