"""A site's own numbers: laid over the shipped tables, checked like them, hashed, and said in every answer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs import ConfigError
from configs.clinical import check_tables, matrix, model, triage_rules
from configs.clinical.site import SiteError, altered, site, use_site
from inference.clinical import assess
from inference.exam import Exam
from inference.provenance import result_key, software
from inference.roots import Imaging
from tests.inference.test_correlate import L5, WELL, finding

HEAD = '[site]\nname = "Clinic"\nsource = "agreed in the spine meeting"\n'


@pytest.fixture(autouse=True)
def shipped_numbers_afterwards() -> Iterator[None]:
    before = os.environ.get("RECESS_SITE")
    yield
    use_site(before)


def given(folder: Path, text: str, head: str = HEAD) -> Path:
    path = folder / "site.toml"
    path.write_text(head + text, encoding="utf-8")
    return path


def told() -> tuple[str, str, list[str]]:
    exam = Exam.parse({"left": WELL, "right": L5, "general": {"time.onset_days": 9, "attest.safety_negative": True}})
    result = assess(exam, Imaging.parse({"assessed": ["L4-L5", "L5-S1"], "findings": [finding()]}))
    assert result.concordance is not None
    words = [item.text for section in result.narrative for item in section.sentences]
    return result.concordance.verdict, result.triage.tier, words


def test_a_site_number_changes_the_verdict_and_the_answer_says_so(tmp_path: Path) -> None:
    assert told()[0] == "concordant"
    use_site(given(tmp_path, "[model.verdict]\nexplains_share = 0.99\n"))
    verdict, _, words = told()
    assert verdict != "concordant"
    assert any("Numbers of Clinic" in text and "explains_share: 0.55 -> 0.99" in text for text in words)


def test_the_hash_of_the_file_is_part_of_the_result(tmp_path: Path) -> None:
    shipped = result_key("m", {})
    use_site(given(tmp_path, "[triage.days]\nweek = 10\n"))
    assert triage_rules().days["week"] == 10
    used = software().site
    assert used is not None
    assert len(used.sha256) == 64
    assert result_key("m", {}) != shipped
    use_site(None)
    assert software().site is None
    assert result_key("m", {}) == shipped


def test_entries_of_a_list_are_named_by_their_id(tmp_path: Path) -> None:
    text = '[matrix.sign."mrc.quadriceps".w]\nL4 = 0.5\n[model.prior_factor."CPN#2"]\nfactor = 2.0\n'
    use_site(given(tmp_path, text + '[second_read.difference."DC-01"]\nweight = 9\n'))
    assert next(row for row in matrix().sign if row.id == "mrc.quadriceps").w["L4"] == 0.5
    assert [item.factor for item in model().prior_factor if item.cause == "CPN"][1] == 2.0
    assert len(getattr(site(), "changed")) == 3  # noqa: B009


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[model.verdict]\nexplains_q = 0.5\n", "model.verdict.explains_q"),
        ('[model.verdict]\nexplains_p = "high"\n', "model.verdict.explains_p"),
        ("[triage.tier_text]\nT1 = 'nothing'\n", "triage.tier_text"),
        ('[triage.rule."TR-01"]\ntext = "x"\n', "triage.rule"),
        ("[words.sentence]\nW-16 = 'x'\n", "words"),
        ('[matrix.sign."mrc.nose"]\nleak = 0.1\n', "mrc.nose"),
        ("[model.root_prior]\nL5 = [0.5, 0.2, 0.2]\n", "root_prior L5"),
        ("[model.verdict]\nexplains_p = 1.5\n", "explains_p"),
        ("[model.verdict]\nexplains_p = 0.7\n", "changes nothing"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(tmp_path: Path, text: str, named: str) -> None:
    def use() -> None:
        use_site(given(tmp_path, text))
        check_tables()

    with pytest.raises(SiteError, match=named.replace(".", r"\.")):
        use()
    use_site(None)


def test_a_site_says_who_it_is_and_why(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="name and a source"):
        use_site(given(tmp_path, "[triage.days]\nweek = 10\n", head=""))
    with pytest.raises(SiteError, match="gone"):
        use_site(tmp_path / "gone.toml")
    use_site(None)


def test_numbers_laid_over_for_a_study_do_not_stay() -> None:
    shipped = model().verdict.explains_p
    with altered({"model": {"verdict": {"explains_p": 0.11}}}):
        assert model().verdict.explains_p == 0.11
    assert model().verdict.explains_p == shipped
    with pytest.raises(ConfigError), altered({"model": {"verdict": {"explains_p": 7.0}}}):
        model()
    assert model().verdict.explains_p == shipped
