"""`mini-bert embed MODEL TEXT…`: a vector a text, and the nearest texts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

from mini_bert.atomic_files import require_place
from mini_bert.cli import DONE
from mini_bert.cli.models import find_model, model_and_texts
from mini_bert.cli.options import refuse_beside, require_at_least_one
from mini_bert.cli.texts import lines_of_file, tell_what_is_cut, texts_or_lines
from mini_bert.errors import InvalidInputError
from mini_bert.model.shipped import DEFAULT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SHOWN = 6
"""Numbers of a vector that a person sees."""


def embed(
    model: Positional[Annotated[str, arg(metavar="MODEL", help_behavior_hint="")]] = DEFAULT,
    texts: Positional[Annotated[tuple[str, ...], arg(metavar="TEXT…", help_behavior_hint="")]] = (),
    *,
    pooling: Literal["mean", "cls", "max", "static"] = "mean",
    layer: tuple[int, ...] = (-1,),
    normalized: FlagCreatePairsOff[bool] = False,
    among: Path | None = None,
    neighbours: int = 5,
    out: Path | None = None,
    json: FlagCreatePairsOff[bool] = False,
) -> int:
    """Turn texts into vectors of H numbers, and show the texts nearest to each by cosine.

    MODEL is a run's name, the path of a checkpoint or of any Hugging Face folder of a BERT, or organisation/model on
    the Hub; without it, the model that comes with the package. Cosines of a masked language model are all high: their
    order means something, their height does not.

    Examples:
      mini-bert embed 'a fast car' 'a quick drive' 'an old church'
      mini-bert embed demo 'Return the first item.' 'Give back the head of the list.' 'Open a file.'
      mini-bert embed demo 'a fast car' --among sentences.txt --neighbours 3
      mini-bert embed demo --pooling mean --layer -2 -1 --normalized --out vectors.npy < lines.txt
      mini-bert embed demo 'one text' --json

    Args:
        model: which model; what has a blank in it is the first text.
        texts: the texts; `-`, or none: the lines of standard input.
        pooling: mean or max over a text's pieces, the vector of [CLS], or pieces without context (static).
        layer: 0 (embeddings) to the last, which is also -1; of several the mean.
        normalized: vectors of length 1.
        among: a file with a text a line, in which the nearest are sought; without it, among the texts themselves.
        neighbours: how many of them.
        out: write the vectors as a NumPy array [N, H] to this .npy file; neighbours are shown with --among only.
        json: one JSON object a text.
    """
    from mini_bert.inference.sentence_embeddings import sentence_embeddings
    from mini_bert.model.bert import MiniBERT

    require_at_least_one("--neighbours", neighbours)
    if out is not None and out.suffix != ".npy":
        raise InvalidInputError("--out", got=str(out), expected="a file name that ends in .npy")
    if pooling == "static":
        refuse_beside("--pooling static", {"--layer": layer != (-1,)})
    if out is not None:
        require_place(out)
    model, texts = model_and_texts(model, texts)
    given = list(texts_or_lines(texts))
    others = None if among is None else lines_of_file(among)
    bert = MiniBERT.from_pretrained(find_model(model))
    tell_what_is_cut(bert, [(text,) for text in (*given, *(others or ()))])
    vectors = sentence_embeddings(bert, given, pooling=pooling, layers=layer, normalized=normalized)
    if others is None:
        found = _neighbours(vectors, vectors, given, neighbours)
    else:
        candidates = sentence_embeddings(bert, others, pooling=pooling, layers=layer)
        found = _neighbours(vectors, candidates, others, neighbours)
    if out is not None:
        _write(out, vectors)
        print(f"{len(vectors):,} vectors of {vectors.shape[1]} numbers: {out}", file=sys.stderr)
    for number, text in enumerate(given):
        if json:
            print(_as_json(text, vectors[number], found[number]))
        elif others is not None or out is None:
            print("\n" * (number > 0) + _as_text(text, vectors[number], found[number]))
    return DONE


def _neighbours(
    vectors: NDArray[np.floating], candidates: NDArray[np.floating], texts: Sequence[str], number: int
) -> list[list[tuple[str, float]]]:
    """For each vector the texts of the nearest candidates, with their cosines.

    Where the candidates are the vectors themselves, no text is its own neighbour.
    """
    from mini_bert.inference.sentence_embeddings import nearest

    same = candidates is vectors
    if same and len(texts) == 1:
        return [[]]
    places, cosines = nearest(vectors, candidates, min(number + same, len(texts)))
    return [
        [(texts[place], float(cosine)) for place, cosine in zip(*near, strict=True) if not (same and place == own)][
            :number
        ]
        for own, near in enumerate(zip(places, cosines, strict=True))
    ]


def _as_text(text: str, vector: NDArray[np.floating], near: Sequence[tuple[str, float]]) -> str:
    if near:
        return "\n".join([text, *(f"  {cosine:6.3f}  {other}" for other, cosine in near)])
    shown = " ".join(f"{value:.3f}" for value in vector[:_SHOWN])
    rest = f" … ({len(vector)} numbers; --json or --out for all)" if len(vector) > _SHOWN else ""
    return f"{text}\n  {shown}{rest}"


def _as_json(text: str, vector: NDArray[np.floating], near: Sequence[tuple[str, float]]) -> str:
    import json

    one: dict[str, Any] = {"text": text, "embedding": [float(value) for value in vector]}
    if near:
        one["neighbours"] = [{"text": other, "cosine": cosine} for other, cosine in near]
    return json.dumps(one, ensure_ascii=False)


def _write(path: Path, vectors: NDArray[np.floating]) -> None:
    import io

    import numpy

    from mini_bert.atomic_files import replace_file

    content = io.BytesIO()
    numpy.save(content, vectors, allow_pickle=False)
    replace_file(path, content.getvalue())
