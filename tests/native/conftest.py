"""The real tokenizers, as a fixture: what cannot be had skips with the reason."""

from __future__ import annotations

import pytest

from native.packages import UnavailableError
from native.real_tokenizers import FAMILIES, Family, tokenizer_json


@pytest.fixture(scope="session", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    """Every family in turn, built when it is first asked for."""
    try:
        return Family(request.param, tokenizer_json(request.param))
    except UnavailableError as error:
        pytest.skip(str(error))
