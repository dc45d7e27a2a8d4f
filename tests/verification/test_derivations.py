"""The pages in docs/derivations and the code speak of the same equations, and the examples on them are true."""

from __future__ import annotations

import doctest
import importlib.util
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mini_bert.ops import erf as erf_module

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "derivations").glob("*.md"))
TEXTS = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
CODE = sorted(path for folder in ("ops", "model", "optim") for path in (ROOT / "mini_bert" / folder).glob("*.py"))

TAG = re.compile(r"\\tag\{([A-Z]+\.\d+)\}")
CITED = re.compile(r"\(([A-Z]+)\.(\d+)(?:[-–](\d+))?\)")


def cited_in(text: str) -> set[str]:
    return {
        f"{prefix}.{number}"
        for prefix, first, last in CITED.findall(text)
        for number in range(int(first), int(last or first) + 1)
    }


TAGS = Counter(tag for text in TEXTS.values() for tag in TAG.findall(text))


def test_the_pattern_finds_single_numbers_and_ranges() -> None:
    assert cited_in("as (LN.7), (MHA.1-3) and (CE.1–2) say; not f(x.1) or (3.4)") == {
        "LN.7", "MHA.1", "MHA.2", "MHA.3", "CE.1", "CE.2",
    }  # fmt: skip


@pytest.mark.parametrize("path", CODE, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_each_equation_that_the_code_cites_is_derived(path: Path) -> None:
    assert sorted(cited_in(path.read_text(encoding="utf-8")) - TAGS.keys()) == []


def test_there_is_something_to_cite() -> None:
    cited = set().union(*(cited_in(path.read_text(encoding="utf-8")) for path in CODE))
    assert len(cited) >= 50


@pytest.mark.parametrize("name", TEXTS)
def test_each_equation_that_a_page_cites_is_derived(name: str) -> None:
    assert sorted(cited_in(TEXTS[name]) - TAGS.keys()) == []


def test_each_number_is_given_once() -> None:
    assert [tag for tag, count in TAGS.items() if count > 1] == []


def test_the_numbers_of_each_kind_are_without_gaps() -> None:
    kinds = Counter(tag.partition(".")[0] for tag in TAGS)
    assert {f"{kind}.{number}" for kind, count in kinds.items() for number in range(1, count + 1)} == set(TAGS)


def test_pages_that_are_named_exist() -> None:
    named = {
        name
        for path in CODE
        for name in re.findall(r"docs/derivations/([a-z_]+\.(?:md|py))", path.read_text(encoding="utf-8"))
    }
    assert named
    linked = {name for text in TEXTS.values() for name in re.findall(r"\]\(([a-z_]+\.md)\)", text)}
    assert sorted((named | linked) - {path.name for path in (ROOT / "docs" / "derivations").iterdir()}) == []


def test_the_index_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\(([a-z_]+\.md)\)", TEXTS["index.md"]))
    assert linked == TEXTS.keys() - {"index.md"}


@pytest.mark.parametrize("name", TEXTS)
def test_files_that_a_page_describes_exist(name: str) -> None:
    line = next((line for line in TEXTS[name].splitlines() if line.startswith("Code: ")), None)
    assert line is not None or name == "index.md"
    for path in re.findall(r"`((?:mini_bert|docs)/[\w/]+\.py)`", TEXTS[name]):
        assert (ROOT / path).is_file()


@pytest.mark.parametrize("name", [name for name, text in TEXTS.items() if ">>>" in text])
def test_examples_are_true(name: str) -> None:
    without_fences = re.sub("^```.*$", "", TEXTS[name], flags=re.MULTILINE)
    examples = doctest.DocTestParser().get_doctest(without_fences, {}, name, name, 0)
    assert doctest.DocTestRunner().run(examples).failed == 0


def test_formulas_are_closed() -> None:
    for name, text in TEXTS.items():
        without_code = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
        assert without_code.count("$$") % 2 == 0, name
        assert without_code.replace("$$", "").count("$") % 2 == 0, name
        for formula in re.findall(r"\$\$(.*?)\$\$|\$(.*?)\$", without_code, flags=re.DOTALL):
            body = "".join(formula)
            assert body.count("{") - body.count(r"\{") == body.count("}") - body.count(r"\}"), (name, body)
            assert len(re.findall(r"\\left\b", body)) == len(re.findall(r"\\right\b", body)), (name, body)


def test_the_fit_of_erf_can_be_made_again() -> None:
    path = ROOT / "docs" / "derivations" / "erf_fit.py"
    spec = importlib.util.spec_from_file_location("erf_fit", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    coefficients, largest_error = module.fit()
    np.testing.assert_allclose(coefficients, erf_module.FIT, rtol=1e-5)
    assert largest_error == pytest.approx(5.78e-8, rel=0.01)
