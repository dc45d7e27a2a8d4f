"""What do the words alone tell? Logistic regression over bags of words and pairs of words: the floor of a fine-tuning.

Words are lower-cased runs of letters and digits; a text is its single words and neighbouring pairs, weighted by tf-idf
(scikit-learn's; Wang and Manning 2012 show how hard this is to beat on short reviews). Of two texts, each has its own
words, a third bag holds those that stand in both, and one feature more is their share of all. Scores are fitted by
ridge regression. The strength of the penalty is chosen on the split that models are chosen on.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mini_bert.data.task_sets.labelled import LabelledExample, LabelledSet
from mini_bert.errors import DataError, MissingExtraError
from mini_bert.evaluation.classification import scores

_WORD = re.compile(r"\w+")
_STRENGTHS = (0.3, 1.0, 3.0, 10.0)
"""Values of C, and of 1 / alpha."""
_MANY = 1000
"""From so many texts on, what occurs once only is left out."""
_MOST_ITERATIONS = 1000


def bag_of_words(train: LabelledSet, selection: LabelledSet, dev: LabelledSet) -> dict[str, Any]:
    """Scores on `dev` of what is fitted on `train`, as `evaluate_labelled` gives them, and the penalty chosen.

    Raises:
        MissingExtraError: scikit-learn is not installed.
        DataError: no text has a word.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError as error:
        raise MissingExtraError(
            "bag of words", got="no scikit-learn", expected="it", advice="pip install 'mini-bert[probes]'"
        ) from error
    texts = Counter(feature for example in train.examples for feature in set(_features(example)))
    if not texts:
        raise DataError("bag of words", got="no word in any text", expected="letters or digits")
    fewest = 2 if len(train.examples) >= _MANY and max(texts.values()) > 1 else 1
    bags = TfidfVectorizer(analyzer=_features, min_df=fewest, sublinear_tf=True)
    bags.fit(train.examples)
    x_train, x_selection, x_dev = (_matrix(bags, part) for part in (train, selection, dev))
    best: tuple[float, float, Any] | None = None
    for strength in _STRENGTHS:
        fitted = _fitted(train, x_train, strength)
        score = scores(_outputs(fitted, x_selection, selection), selection)["score"]
        if best is None or score > best[0]:
            best = (score, strength, fitted)
    assert best is not None
    return {**scores(_outputs(best[2], x_dev, dev), dev), "strength": best[1], "features": len(bags.vocabulary_)}


def _fitted(train: LabelledSet, x: Any, strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression, Ridge

    if train.regression:
        return Ridge(alpha=1 / strength, solver="lsqr").fit(x, train.labels)
    return LogisticRegression(C=strength, max_iter=_MOST_ITERATIONS).fit(x, train.labels)


def _outputs(fitted: Any, x: Any, examples: LabelledSet) -> NDArray[np.float64]:
    """[n, C]; a class that the training set lacks is never named."""
    if examples.regression:
        return np.asarray(fitted.predict(x), np.float64)[:, None]
    outputs = np.full((x.shape[0], len(examples.classes)), -1e9)
    outputs[:, fitted.classes_] = fitted.predict_log_proba(x).clip(min=-1e6)
    return outputs


def _matrix(bags: Any, examples: LabelledSet) -> Any:
    from scipy.sparse import csr_matrix, hstack

    shared = [[_shared(example)] for example in examples.examples]
    return hstack([bags.transform(examples.examples), csr_matrix(np.array(shared))]).tocsr()


def _shared(example: LabelledExample) -> float:
    """The share of all different words that both texts have; 0 of a single text."""
    if example.pair is None:
        return 0.0
    one, other = set(_words(example.text)), set(_words(example.pair))
    return len(one & other) / max(1, len(one | other))


def _features(example: LabelledExample) -> list[str]:
    features = _bag(example.text, "")
    if example.pair is not None:
        both = sorted(set(_words(example.text)) & set(_words(example.pair)))
        features += [*_bag(example.pair, "2:"), *(f"both:{word}" for word in both)]
    return features


def _bag(text: str, mark: str) -> list[str]:
    words = _words(text)
    return [mark + word for word in words] + [f"{mark}{a} {b}" for a, b in pairwise(words)]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
