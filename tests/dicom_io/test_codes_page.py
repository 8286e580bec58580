"""Every code and every limit of the reader stands on the page that explains them, and the page says nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from configs.loader import config_path, limits
from dicom_io.codes import ALL
from dicom_io.codes_page import page

_ROOT = Path(__file__).resolve().parents[2]
_PAGE = _ROOT / "docs" / "ingest-codes.md"


def test_the_page_is_the_one_that_the_catalogue_makes() -> None:
    assert _PAGE.read_text(encoding="utf-8") == page(), "write it anew: python -m dicom_io.codes_page"


def test_every_code_has_a_sentence_with_its_remedy_or_consequence() -> None:
    text = _PAGE.read_text(encoding="utf-8")
    for code, sentence in ALL.items():
        assert f"| `{code}` | {sentence} |" in text
        assert sentence.endswith(".")
        assert len(sentence.split()) >= 4


def test_every_limit_is_on_the_page() -> None:
    text = _PAGE.read_text(encoding="utf-8")
    for section, values in limits().model_dump().items():
        for name in values:
            assert f"`{section}.{name}`" in text
    assert config_path("limits.toml").is_file()


def test_codes_told_anywhere_in_the_package_are_in_the_catalogue() -> None:
    told = set()
    for path in (_ROOT / "dicom_io").glob("*.py"):
        source = path.read_text(encoding="utf-8")
        told |= set(re.findall(r'code="([A-Z_0-9]+)"', source))
        told |= set(re.findall(r'notice\(\s*"([A-Z_0-9]+)"', source))
        told |= set(
            re.findall(r'(?:StructureError|HeaderError|_RefusedError|EntryError|_ChildError)\("([A-Z_0-9]+)"', source)
        )
    assert told - {"INPUT"} <= set(ALL)
