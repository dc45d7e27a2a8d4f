"""Which figures of a result stand in the one table of an assessment? A line a figure, with what it is compared with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

Result = Mapping[str, Any]


Floor = tuple[str, float]
"""What can be had without a model, and how good that is."""


class Headline(NamedTuple):
    """One figure of many."""

    key: str
    """By which it is found again in another assessment."""
    what: str
    """As a person reads it."""
    value: float | None
    interval: Sequence[float | None] | None = None
    untrained: float | None = None
    baseline: Floor | None = None
    """The best floor."""
    unit: str = "%"
    """`%` of a share; `ppl`, three figures; `nats`, `ρ` (a correlation) and empty: two decimals."""


def headlines(part: Result) -> Iterator[Headline]:
    """The figures of one part that stand in the table."""
    result = part["result"]
    return _OF_KIND[result["kind"]](part["name"], result)


def _masked_lm(name: str, result: Result) -> Iterator[Headline]:
    of = {line["name"]: line for line in result["table"]}
    model, untrained = of["model"], of["untrained"]
    floors = {key: line for key, line in of.items() if key not in ("model", "untrained")}
    best = min(floors.values(), key=lambda line: line["loss"])
    right = max(floors.values(), key=lambda line: line["top1"])
    yield Headline(
        f"{name}.loss",
        "hidden pieces: loss",
        model["loss"],
        model["loss_interval"],
        untrained["loss"],
        (best["label"], best["loss"]),
        "nats",
    )
    yield Headline(
        f"{name}.perplexity",
        "hidden pieces: perplexity",
        model["perplexity"],
        None,
        untrained["perplexity"],
        (best["label"], best["perplexity"]),
        "ppl",
    )
    yield Headline(
        f"{name}.top1",
        "hidden pieces: first guess right",
        model["top1"],
        model["top1_interval"],
        untrained["top1"],
        (right["label"], right["top1"]),
    )
    yield Headline(
        f"{name}.top5", "hidden pieces: among five guesses", model["top5"], model["top5_interval"], untrained["top5"]
    )


def _breakdown(name: str, result: Result) -> Iterator[Headline]:
    calibration = result["calibration"]["model"]
    if calibration is None:
        return
    floor = ("by chance alone", calibration["floor"])
    yield Headline(f"{name}.calibration", "calibration error", calibration["error"], None, None, floor)


def _pseudo_perplexity(name: str, result: Result) -> Iterator[Headline]:
    for score in result["scores"]:
        if (score["way"], score["per"]) in (("plain", "piece"), ("within_word", "word")):
            way = "pseudo-perplexity a piece" if score["per"] == "piece" else "pseudo-perplexity a word, within words"
            yield Headline(f"{name}.{score['per']}", way, score["perplexity"], score["interval"], None, None, "ppl")


def _attention(name: str, result: Result) -> Iterator[Headline]:
    shares = [head["share"] for head in result["heads"]]
    yield Headline(f"{name}.share", "attention entropy, of the most possible", sum(shares) / len(shares))
    beside = max(head[side] for head in result["heads"] for side in ("previous", "next"))
    yield Headline(f"{name}.beside", "attention on a token beside, of the head that looks there most", beside)


def _efficiency(name: str, result: Result) -> Iterator[Headline]:
    yield Headline(f"{name}.flops", "encoding: million operations a token", result["flops_a_token"] / 1e6, unit="")
    speed = f"encoding: tokens a second, {result['threads']} threads"
    yield Headline(f"{name}.speed", speed, result["tokens_a_second"], unit="ppl")
    if result["training_flops"] is not None:
        training = "training: 10¹⁵ operations in all"
        yield Headline(f"{name}.training", training, result["training_flops"] / 1e15, unit="")


_COMMONEST = {
    "majority_per_word": "commonest tag of the word",
    "majority_per_type": "commonest tag of its pieces",
    "majority": "commonest tag of all",
}


def _part_of_speech(name: str, result: Result) -> Iterator[Headline]:
    of = {line["name"]: line for line in result["table"]}
    model = of["model"]
    floors = {label: of[way] for way, label in _COMMONEST.items()}
    floor = _highest((label, line["accuracy"]) for label, line in floors.items())
    yield Headline(
        name, "parts of speech, best layer", model["accuracy"], model["interval"], of["untrained"]["accuracy"], floor
    )
    unknown = _highest((label, line["unknown"]["accuracy"]) for label, line in floors.items())
    yield Headline(
        f"{name}.unknown",
        "parts of speech, unknown words",
        model["unknown"]["accuracy"],
        model["unknown"]["interval"],
        of["untrained"]["unknown"]["accuracy"],
        unknown,
    )
    selectivity = result["control"]["selectivity"]
    yield Headline(
        f"{name}.selectivity", "parts of speech: selectivity", selectivity["difference"], selectivity["interval"]
    )


_SETS = {"blimp": "grammar: BLiMP", "linzen": "agreement: Linzen", "gulordava": "agreement: Gulordava"}
_ATTRACTORS = {"0 attractors": "easiest", "1 attractor": "harder"}
"""Of Linzen's sentences: those without, and with one noun of the other number between subject and verb."""
_FLOORS = {"shorter": "fewer pieces", "unigram": "frequent pieces", "kneser_ney": "5-gram"}


def _pairs(name: str, result: Result) -> Iterator[Headline]:
    for one in result["sets"]:
        what = _SETS.get(one["name"], one["name"])
        yield _pairs_headline(one["name"], what, one["total"], result["chance"])
        for group in one.get("paradigms", ()):
            if (key := _ATTRACTORS.get(group["paradigm"])) is not None:
                yield _pairs_headline(
                    f"{one['name']}.{key}", f"{what}, {group['paradigm']}", group["scores"], result["chance"]
                )


def _pairs_headline(key: str, what: str, scores: Result, chance: float) -> Headline:
    floors = [("chance", chance)]
    floors += [(label, scores[way]["accuracy"]) for way, label in _FLOORS.items() if way in scores]
    return Headline(key, what, scores["pll"]["accuracy"], scores["pll"]["interval"], None, _highest(floors))


_WORD_SETS = ("MEN-3000", "SimLex-999")


def _meaning(name: str, result: Result) -> Iterator[Headline]:
    for measured in result["results"]:
        if measured["kind"] == "word_similarity":
            yield from (_words(one) for one in measured["sets"] if one["set"] in _WORD_SETS)
        elif measured["kind"] == "analogies":
            yield _analogies(measured)
        else:
            yield from (_sentences(one) for one in measured["sets"])


def _words(one: Result) -> Headline:
    of = {score["by"]: score for score in one["spearman"]}
    ours, floor = of["static embeddings"], ("letters in common", of["letters in common"]["value"])
    untrained = of["untrained, static embeddings"]["value"]
    return Headline(one["set"], f"words: {one['set']}", ours["value"], ours["interval"], untrained, floor, "ρ")


def _analogies(measured: Result) -> Headline:
    whole = next(group for group in measured["groups"] if group["group"] == "all")
    of = {score["by"]: score for score in whole["accuracy"]}
    ours, untrained, floor = of["3CosAdd"], of["untrained, 3CosAdd"]["value"], of["nearest to c"]["value"]
    return Headline(
        "analogies", "analogies, 3CosAdd", ours["value"], ours["interval"], untrained, ("nearest to c", floor)
    )


def _sentences(one: Result) -> Headline:
    of = {score["by"]: score for score in one["correlations"]}
    last = [by for by in of if by.startswith("mean, layer") and not by.endswith("standardized")][-1]
    ours = of[last]
    untrained = next((score["spearman"] for by, score in of.items() if by.startswith("untrained, mean")), None)
    floor = ("words in common", of["words in common"]["spearman"])
    what = f"sentences: {one['set']}, {last}"
    return Headline(one["set"], what, ours["spearman"], ours["spearman_interval"], untrained, floor, "ρ")


def _facts(name: str, result: Result) -> Iterator[Headline]:
    for one in result["sets"]:
        of = {score["by"]: score for score in one["scores"]}
        floors = ((by, of[by]["top1"]) for by in ("majority answer", "named in the subject, else majority"))
        yield Headline(
            f"{name}.{one['set']}",
            f"facts: {one['set']}",
            of["model"]["top1"],
            of["model"]["top1_interval"],
            None,
            _highest(floors),
        )
        if "consistency" in one:
            consistency = one["consistency"]
            yield Headline(
                f"{name}.consistency", "facts: same answer if asked anew", consistency["value"], consistency["interval"]
            )


def _composition(name: str, result: Result) -> Iterator[Headline]:
    triples = {(line["edit"], line["by"]): line for line in result["edits"]["triples"]}
    for edit in dict.fromkeys(edit for edit, _ in triples):
        ours, untrained = triples[edit, "model"], triples[edit, "untrained"]
        floor = ("words in common", triples[edit, "words in common"]["accuracy"])
        yield Headline(
            f"{name}.{edit}", f"composition: {edit}", ours["accuracy"], ours["interval"], untrained["accuracy"], floor
        )


def _stereotypes(name: str, result: Result) -> Iterator[Headline]:
    for key, what in (
        ("crows_pairs", "stereotypes: CrowS-Pairs (50 %: none seen)"),
        ("winobias", "stereotypes: WinoBias"),
    ):
        whole = next(group for group in result[key]["groups"] if group["group"] == "all")
        yield Headline(f"{name}.{key}", what, whole["share"], whole["interval"], None, ("no preference", 0.5))


def _stability(name: str, result: Result) -> Iterator[Headline]:
    lines = {(line["change"], line["by"]): line for line in result["lines"]}
    for change in dict.fromkeys(change for change, _ in lines):
        ours, untrained = lines[change, "model"], lines.get((change, "untrained"))
        if ours.get("same_piece"):
            same = untrained and untrained.get("same_piece")
            what = f"same guess in spite of: {change}"
            yield Headline(
                f"{name}.{change}",
                what,
                ours["same_piece"]["value"],
                ours["same_piece"]["interval"],
                same["value"] if same else None,
            )


_METRICS = {"accuracy": "%", "f1": "%", "matthews": "", "spearman": "ρ", "pearson": "ρ"}


def _finetuning(name: str, result: Result) -> Iterator[Headline]:
    arms = {arm["name"]: arm for arm in result["arms"]}
    ours, unit = arms["model"], _METRICS.get(result["metric"], "")
    scratch = arms.get("from scratch")
    blind = result["first_seed"].get("majority")
    floors = [] if blind is None else [("always one class", blind[result["metric"]])]
    if "score" in result["bag_of_words"]:
        floors.append(("bag of words", result["bag_of_words"]["score"]))
    floor = _highest(floors)
    seeds = len(ours["trials"])
    interval = _over_texts_and_seeds(ours)
    what = f"fine-tuned: {result['task']}, {result['metric']}, {seeds} seed{'s' if seeds > 1 else ''}"
    yield Headline(name, what, ours["mean"], interval, scratch and scratch["mean"], floor, unit)


def _over_texts_and_seeds(arm: Mapping[str, Any]) -> list[float] | None:
    """How far another test set *and* other seeds could move the mean: two independent errors, added as squares."""
    first, mean = arm["trials"][0], arm["mean"]
    if len(arm["trials"]) == 1 or first["interval"] is None:
        return first["interval"]
    ends = zip(first["interval"], arm["interval"], (-1, 1), strict=True)
    return [mean + sign * math.hypot(texts - first["score"], seeds - mean) for texts, seeds, sign in ends]


def _highest(floors: Iterable[Floor]) -> Floor | None:
    return max(floors, key=itemgetter(1), default=None)


_OF_KIND: dict[str, Callable[[str, Result], Iterator[Headline]]] = {
    "evaluation": _masked_lm,
    "masked_lm_breakdown": _breakdown,
    "pseudo_perplexity": _pseudo_perplexity,
    "attention_entropy": _attention,
    "efficiency": _efficiency,
    "part_of_speech": _part_of_speech,
    "minimal_pairs": _pairs,
    "meaning": _meaning,
    "facts": _facts,
    "composition": _composition,
    "stereotypes": _stereotypes,
    "stability": _stability,
    "finetuning": _finetuning,
}
