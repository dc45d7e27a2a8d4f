"""`mini-bert fill-mask MODEL TEXT…`: nothing is imported here that filling a mask does not need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from tyro.conf import FlagCreatePairsOff, Positional, arg

from mini_bert.cli import DONE
from mini_bert.cli.models import FILLS_NO_MASKS, model_and_texts, open_model
from mini_bert.cli.texts import texts_or_lines
from mini_bert.model.shipped import DEFAULT

if TYPE_CHECKING:
    from mini_bert.model.bert import Prediction

_BAR = 24
"""Characters that stand for a probability of 1."""


def fill_mask(
    model: Positional[Annotated[str, arg(metavar="MODEL", help_behavior_hint="")]] = DEFAULT,
    texts: Positional[Annotated[tuple[str, ...], arg(metavar="TEXT…", help_behavior_hint="")]] = (),
    *,
    top_k: int = 5,
    json: FlagCreatePairsOff[bool] = False,
) -> int:
    """Fill the [MASK]s of a sentence: the likeliest pieces with their probabilities.

    MODEL is a run's name, the path of a checkpoint or of any Hugging Face folder of a BERT, or organisation/model on
    the Hub; without it, the model that comes with the package.

    Examples:
      mini-bert fill-mask 'She opened the [MASK] and looked at him.'
      mini-bert fill-mask demo 'Return the [MASK] of the list.'
      mini-bert fill-mask demo 'Open the [MASK] for [MASK].' --top-k 10
      mini-bert fill-mask demo --json < lines.txt

    Args:
        model: which model; what has a blank or a [MASK] in it is the first text.
        texts: sentences with one or several [MASK]s; `-`, or none: the lines of standard input.
        top_k: how many pieces to show for each [MASK].
        json: one JSON object a text.
    """
    model, texts = model_and_texts(model, texts)
    bert = open_model(model, "mlm", FILLS_NO_MASKS)
    for number, text in enumerate(texts_or_lines(texts)):
        masks = bert.fill_mask(text, top_k=top_k)
        print(as_json(text, masks) if json else "\n" * (number > 0) + as_text(text, masks))
    return DONE


def as_text(text: str, masks: Sequence[Sequence[Prediction]]) -> str:
    """The text, and under it the pieces for each of its masks."""
    width = max(len(prediction.token) for predictions in masks for prediction in predictions)
    lines = [text]
    for number, predictions in enumerate(masks, start=1):
        if len(masks) > 1:
            lines.append(f"  [MASK] {number}")
        for token, _, probability in predictions:
            lines.append(f"  {probability:6.1%}  {token:<{width}}  {'▇' * round(_BAR * probability)}".rstrip())
    return "\n".join(lines)


def as_json(text: str, masks: Sequence[Sequence[Prediction]]) -> str:
    """`{"text": …, "masks": [[{"token": …, "id": …, "probability": …}, …], …]}` on one line."""
    import json

    listed = [[prediction._asdict() for prediction in predictions] for predictions in masks]
    return json.dumps({"text": text, "masks": listed}, ensure_ascii=False)
