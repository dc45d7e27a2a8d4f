"""`mini-bert classify MODEL TEXT…`: the labels that a fine-tuned model gives to texts without any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from mini_bert.cli import DONE
from mini_bert.cli.models import open_model
from mini_bert.cli.options import Flag
from mini_bert.cli.texts import tell_what_is_cut, texts_or_lines
from mini_bert.errors import InvalidInputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def classify(
    model: Positional[Annotated[str, arg(metavar="MODEL")]],
    texts: Positional[Annotated[tuple[str, ...], arg(metavar="TEXT…", help_behavior_hint="")]] = (),
    *,
    json: Flag = False,
) -> int:
    """Give texts the labels that a fine-tuned model has learned: the likeliest class of each, or its score.

    MODEL is the run of a fine-tuning, or the path of any BERT with a classifier.

    Examples:
      mini-bert classify sentiment-seed-0 'A charming film.' 'Two hours that nobody gives you back.'
      mini-bert classify sentiment-seed-0 --json < reviews.txt
      printf 'A man sleeps.\\tHe is awake.\\n' | mini-bert classify rte-seed-0

    Args:
        model: which model.
        texts: the texts; `-`, or none: the lines of standard input. A tab parts the two texts of a pair.
        json: one JSON object a text, with the probability of each class.
    """
    from mini_bert.evaluation.classification import classes_of
    from mini_bert.inference.text_labels import label_scores
    from mini_bert.ops.softmax import stable_softmax

    bert = open_model(model, "classifier", "Fine-tune it first: mini-bert finetune --help.")
    given = list(texts_or_lines(texts))
    pairs = [(first, second if tab else None) for first, tab, second in (text.partition("\t") for text in given)]
    for text, (first, second) in zip(given, pairs, strict=True):
        if second is not None and not (first.strip() and second.strip() and "\t" not in second):
            raise InvalidInputError("TEXT", got=f"{text!r:.60}", expected="a text on both sides of one tab")
    tell_what_is_cut(bert, [(first,) if second is None else (first, second) for first, second in pairs])
    outputs, classes = label_scores(bert, pairs), classes_of(bert)
    found = stable_softmax(outputs) if classes else outputs
    for text, one in zip(given, found, strict=True):
        print(_as_json(text, one, classes) if json else _as_text(text, one, classes))
    return DONE


def _as_text(text: str, found: NDArray[np.floating], classes: tuple[str, ...]) -> str:
    if not classes:
        return f"{float(found[0]):.3f}\t{text}"
    return f"{classes[int(found.argmax())]}\t{float(found.max()):.1%}\t{text}"


def _as_json(text: str, found: NDArray[np.floating], classes: tuple[str, ...]) -> str:
    import json

    if not classes:
        return json.dumps({"text": text, "score": float(found[0])}, ensure_ascii=False)
    probabilities = dict(zip(classes, map(float, found), strict=True))
    label = classes[int(found.argmax())]
    return json.dumps({"text": text, "label": label, "probabilities": probabilities}, ensure_ascii=False)
