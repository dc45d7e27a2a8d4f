"""A study of three pieces on made-up words, whose trials take a second each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mini_bert.studies.reading import read_study
from mini_bert.studies.schema import Study


def corpus_text(documents: int = 60, words: int = 60) -> str:
    rng = np.random.Generator(np.random.PCG64(5))
    syllables = ["ba", "ke", "lo", "mi", "nu", "ra", "se", "ti"]
    lexicon = ["".join(syllables[i] for i in rng.integers(0, 8, rng.integers(1, 4))) for _ in range(80)]
    paragraphs = [" ".join(lexicon[int(80 * rng.random() ** 2)] for _ in range(words)) + "." for _ in range(documents)]
    return "\n\n".join(paragraphs) + "\n"


@pytest.fixture(scope="session")
def study_corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("study-corpus")
    for number, paragraph in enumerate(corpus_text().split("\n\n")):
        (folder / f"{number:02}.txt").write_text(paragraph)
    return f"{folder}/*.txt"


@pytest.fixture
def described(study_corpus: str) -> Callable[..., dict[str, Any]]:
    """What a study's file says, with some of it changed."""

    def make(**changes: Any) -> dict[str, Any]:
        return {
            "name": "small",
            "question": "Does it help?",
            "extends": ["training/debugging"],
            "settings": {"model.vocab_size": 96},
            "corpus": [study_corpus],
            "pieces": {
                "plain": {"why": "As it is."},
                "faster": {"settings": {"train.lr": 0.01}, "why": "A higher rate."},
                "relu": {"settings": {"model.hidden_act": "relu"}, "why": "Simpler."},
            },
            "baseline": "plain",
            "budget": {"steps": 24},
            "seeds": [0, 1],
            **changes,
        }

    return make


@pytest.fixture
def study_file(described: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., str]:
    """Write a study's file."""

    def make(**changes: Any) -> str:
        path = tmp_path / "small.yaml"
        path.write_text(yaml.safe_dump(described(**changes), sort_keys=False))
        return str(path)

    return make


@pytest.fixture
def study(study_file: Callable[..., str]) -> Callable[..., Study]:
    return lambda **changes: read_study(study_file(**changes))
