"""The equations that the code of masking and of curricula cites are those of the guides."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = [*(ROOT / "mini_bert" / "data").glob("*.py"), ROOT / "mini_bert" / "training" / "adaptive_masking.py"]


@pytest.mark.parametrize(("page", "prefix"), [("masking", "MA"), ("curriculum", "CU")])
def test_each_number_that_is_cited_stands_in_the_guide(page: str, prefix: str) -> None:
    given = re.findall(rf"\\tag\{{({prefix}\.\d+)\}}", (ROOT / "docs" / "guide" / f"{page}.md").read_text("utf-8"))
    cited = {number for path in CODE for number in re.findall(rf"\(({prefix}\.\d+)\)", path.read_text("utf-8"))}
    assert cited == set(given)
    assert len(given) == len(set(given)) >= 5
