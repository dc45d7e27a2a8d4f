"""`mini-bert convert IN OUT`: any readable BERT as a clean folder that opens here and in transformers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from mini_bert.cli import DONE
from mini_bert.cli.models import find_model
from mini_bert.cli.options import Flag, option
from mini_bert.cli.results import print_json
from mini_bert.errors import InvalidInputError

if TYPE_CHECKING:
    from mini_bert.model.bert import MiniBERT
    from mini_bert.model.pretrained import Origin

_SHOWN = 6
"""Names of tensors that were left behind; the JSON has all."""


def convert(
    source: Positional[Annotated[str, arg(metavar="IN")]],
    target: Positional[Annotated[str, arg(metavar="OUT")]],
    *,
    heads: Annotated[
        tuple[Literal["mlm", "nsp", "classifier", "token_classifier"], ...] | None,
        option("keep these heads; without a name: the encoder alone. Default: those of IN", "HEAD…"),
    ] = None,
    dtype: Annotated[
        Literal["float16", "bfloat16", "float32", "float64"] | None,
        option("round the numbers to it. Default: the narrowest that holds every number of IN as it is", "DTYPE"),
    ] = None,
    without_tokenizer: Flag = False,
    overwrite: Flag = False,
    json: Flag = False,
) -> int:
    """Turn any Hugging Face BERT into a folder that opens here and there: safetensors, config.json, tokenizer.

    IN is a folder (model.safetensors or pytorch_model.bin, whole or in shards, also old ones with gamma and beta), a
    run's name, or organisation/model on the Hugging Face Hub. A checkpoint becomes a folder without optimiser state.

    Examples:
      mini-bert convert ~/models/bert-base-uncased bert
      mini-bert convert demo exported
      mini-bert convert google/bert_uncased_L-2_H-128_A-2 bert-tiny --heads mlm
      mini-bert convert demo small --dtype bfloat16

    Args:
        source: what to read.
        target: the folder to write.
        heads: which heads to keep.
        dtype: of the file.
        without_tokenizer: leave the tokenizer behind, for instance where it is not BERT's.
        overwrite: write into a folder that is not empty; files with other names stay.
        json: what was read and written, as JSON.
    """
    from mini_bert.interop.precision import narrowest
    from mini_bert.model.pretrained import read_pretrained

    out = Path(target)
    if out.exists() and not out.is_dir():
        raise InvalidInputError("OUT", got=f"{out}, a file", expected="a folder, or a name for one")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise InvalidInputError(
            "OUT", got=f"{out}, which is not empty", expected="a new or empty folder", advice="Or say --overwrite."
        )
    folder = find_model(source, "IN")
    model, origin = read_pretrained(folder, None, heads, seed=None, with_tokenizer=not without_tokenizer)
    held = narrowest(array for array in origin.arrays.values() if array.dtype.kind == "f")
    model.save_pretrained(out, dtype or held)
    facts = _facts(model, origin, held, out, dtype or held)
    if json:
        print_json(facts)
    else:
        _print(facts)
    if model.tokenizer is None:
        print("mini-bert convert: no tokenizer; the model reads ids, not text.", file=sys.stderr)
    return DONE


def _facts(model: MiniBERT, origin: Origin, held: str, out: Path, dtype: str) -> dict[str, Any]:
    from mini_bert.interop.bert_config import architecture_of, model_type

    config = model.config
    return {
        "read": {
            "folder": str(origin.folder),
            "file": origin.weights.name,
            "architecture": origin.architecture,
            "architecture_from": "config.json" if origin.named else "the tensors",
            "heads": list(origin.heads),
            "tensors": len(origin.arrays),
            "numbers": sum(array.size for array in origin.arrays.values() if array.dtype.kind == "f"),
            "dtype": held,
            "left_behind": list(origin.left_behind),
        },
        "wrote": {
            "folder": str(out),
            "files": sorted(path.name for path in out.iterdir() if path.is_file()),
            "architecture": architecture_of(config.heads),
            "model_type": model_type(config),
            "heads": list(config.heads),
            "tensors": len(model.parameters),
            "parameters": model.parameters.buffer.size,
            "dtype": dtype,
        },
        "shape": {
            "L": config.num_hidden_layers,
            "H": config.hidden_size,
            "A": config.num_attention_heads,
            "I": config.intermediate_size,
            "T": config.max_position_embeddings,
            "V": config.vocab_size,
            "hidden_act": config.hidden_act,
            "pooler": "W_pooler" in model.parameters,
        },
    }


def _print(facts: dict[str, Any]) -> None:
    read, wrote, shape = facts["read"], facts["wrote"], facts["shape"]
    letters = " ".join(f"{letter}={shape[letter]}" for letter in "LHAITV")
    named = read["architecture"] or "a BERT with heads " + ", ".join(read["heads"])
    by = "" if read["architecture_from"] == "config.json" else ", by its tensors"
    print(f"read   {read['folder']}")
    print(f"       {named}{by}: {letters}, {shape['hidden_act']}{'' if shape['pooler'] else ', no pooler'}")
    print(f"       {read['file']}: {read['tensors']} tensors, {read['numbers']:,} numbers, {read['dtype']}")
    if read["left_behind"]:
        more = len(read["left_behind"]) - _SHOWN
        names = ", ".join(read["left_behind"][:_SHOWN]) + (f" and {more} more" if more > 0 else "")
        print(f"       left behind: {names}")
    print(f"wrote  {wrote['folder']}")
    kind = wrote["architecture"] or "a BERT with heads " + ", ".join(wrote["heads"])
    if wrote["model_type"] != "bert":
        kind += f", a variant that transformers does not know (model_type {wrote['model_type']})"
    print(f"       {kind}: {wrote['parameters']:,} parameters, {wrote['dtype']}")
    print(f"       {', '.join(wrote['files'])}")
