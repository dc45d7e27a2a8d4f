from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest


@pytest.fixture(autouse=True, scope="package")
def _numeric_errors_raise() -> Iterator[None]:
    """As inside a training step; underflow to zero is meant."""
    with np.errstate(divide="raise", over="raise", invalid="raise", under="ignore"):
        yield
