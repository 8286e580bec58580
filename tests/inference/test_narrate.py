"""Sentences: their order, what each section holds, and what is never said."""

from __future__ import annotations

from typing import Any

import pytest

from configs.clinical import patterns, second_read_rules, sources, triage_rules, words
from inference.clinical import DISCLAIMER, Assessment, assess
from inference.clinical_words import ForbiddenWordsError, forbidden, quoted, say
from inference.exam import Exam
from inference.report import Finding, Withheld
from inference.roots import Imaging, imaging_from_report
from tests.inference.test_correlate import L5, exam, finding, images


def sentences(result: Assessment) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for section in result.narrative:
        for sentence in section.sentences:
            out.setdefault(sentence.id, []).append(sentence.text)
    return out


def told(case: Exam, *found: dict[str, Any], **more: Any) -> dict[str, list[str]]:
    return sentences(assess(case, images(*found, **more)))


def test_sections_come_in_the_order_a_surgeon_asks() -> None:
    titles = words().section
    result = assess(
        exam(L5), images(finding(), finding("L5-S1", condition="recess_stenosis", withheld="motion artefact"))
    )
    order = [section.section for section in result.narrative]
    assert order == [titles[key] for key in ("urgent", "verdict", "why", "unexplained", "unknown", "limits")]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("F-01", "This rules out a nerve lesion"),
        ("F-01", "No evidence of a fracture"),
        ("F-01", "The scan excludes stenosis"),
        ("F-02", "The diagnosis is clear"),
        ("F-02", "weakness caused by the disc"),
        ("F-03", "surgery is recommended"),
        ("F-03", "The patient needs surgery"),
        ("F-04", "A normal examination"),
        ("F-05", "It is safe to wait"),
        ("F-05", "a benign finding"),
        ("F-06", "L5 with 87 % probability"),
        ("F-06", "87 per cent"),
        ("F-07", "strength will recover"),
        ("F-08", "tibialis anterior was corrected"),
        ("F-09", "AI detected a herniation"),
        ("F-09", "proven compression"),
    ],
)
def test_what_is_never_said(rule: str, text: str) -> None:
    assert rule in forbidden(text)


def test_every_shipped_text_may_leave() -> None:
    catalogue = words()
    shipped = [*catalogue.sentence.values(), *catalogue.word.values(), *catalogue.reason.values(), DISCLAIMER]
    shipped += [item.text for item in patterns().pattern] + [item.text for item in patterns().next_test]
    shipped += [item.text for item in triage_rules().rule] + list(triage_rules().tier_text.values())
    shipped += [one.says for item in triage_rules().panel.subject for one in item.positions]
    shipped += [item.text for item in second_read_rules().difference] + [item.item for item in sources().agreement]
    assert [text for text in shipped if forbidden(text)] == []


def test_a_sentence_that_may_not_leave_is_a_fault() -> None:
    with pytest.raises(ForbiddenWordsError):
        say("W-07", list="a benign lesion")


def test_what_a_person_entered_is_left_out_where_it_breaks_the_rules() -> None:
    assert quoted("fluid in the disc") == "fluid in the disc"
    assert quoted("benign,\nsafe to wait") == words().sentence["quote_withheld"]
    marked = finding(red_flag_lesion="benign lesion, 50 % of the height")
    assert words().sentence["quote_withheld"] in " ".join(told(exam(L5), marked)["W-11"])


def test_w01_names_finding_side_and_root() -> None:
    assert told(exam(L5), finding())["W-01"] == [
        "L4-L5 right subarticular extrusion (severe) lies on the route of the right L5 root;"
        " the recorded deficits fit that root (share 0.90)."
    ]


def test_w02_says_its_limits() -> None:
    assert "this level was operated on" in told(exam(L5), finding(post_op=True))["W-02"][0]


def test_w03_and_w06_for_the_other_side() -> None:
    said = told(exam(L5), finding(side="left"))
    assert "W-01" not in said
    assert "L4-L5 left subarticular extrusion" in said["W-03"][0]
    assert said["W-06"] == ["The recorded deficits are on the other side than this finding."]
    assert "right tibialis anterior MRC 3" in said["W-07"][0]


def test_w04_says_why_a_finding_cannot_be_judged() -> None:
    assert "its zone is not given" in told(exam(L5), finding(zone=None))["W-04"][0]


def test_w05_gives_the_verdict_of_the_study() -> None:
    assert told(exam(L5), finding())["W-05"][0].startswith("Imaging and examination: concordant; 0.9")


def test_w08_and_w17_list_other_causes() -> None:
    said = told(exam(L5 | {"umn.babinski": "present"}), finding())
    assert "central cause (brain or cord)" in said["W-08"][0]
    assert said["W-17"]


def test_w09_names_blank_groups_and_a_blank_side_once() -> None:
    said = told(exam({"mrc.quadriceps": "4"}, {}), finding())["W-09"]
    assert "left: everything" in said[0]
    assert "needle EMG" in said[0]
    assert "needle EMG of" not in said[0]
    said = told(exam({"mrc.quadriceps": "4"}, {}), finding())["one_side"]
    assert "The left side was not examined" in said[0]


def test_w10_says_which_site_is_withheld_and_why() -> None:
    said = told(exam(L5), finding(condition="recess_stenosis", withheld="axial slices do not cover the level"))
    assert said["W-10"] == ["L4-L5 right lateral recess stenosis: value withheld: axial slices do not cover the level."]


def test_sites_withheld_for_one_reason_share_a_sentence() -> None:
    gone = [
        finding(level, side, "recess_stenosis", withheld="series missing")
        for level in ("L4-L5", "L5-S1")
        for side in ("left", "right")
    ]
    said = told(exam(L5), *gone)["W-10"]
    assert len(said) == 1
    assert said[0].count("lateral recess stenosis") == 4


def test_w11_gives_tier_and_fields_in_the_prescribed_words() -> None:
    text = told(exam({"mrc.tibialis_anterior": "2"}, time__onset_days=3), finding())["W-11"][0]
    assert text.startswith("Triage T1: Fields recorded here are ones for which the sources ask for same-day")
    assert "right tibialis anterior MRC 2" in text
    assert "3 days since onset" in text


def test_open_safety_items_stand_first() -> None:
    said = sentences(assess(Exam.parse({}), Imaging()))
    assert "safety items not examined" in said["W-11"][0]
    assert "saddle numbness" in said["safety_blank"][0]


def test_w12_names_the_items_that_would_separate_the_causes() -> None:
    thin = {key: value for key, value in L5.items() if key not in {"mrc.tibialis_posterior", "mrc.gluteus_medius"}}
    assert "right tibialis posterior, right gluteus medius" in told(exam(thin), finding())["W-12"][0]


def test_w13_for_uncertain_numbering() -> None:
    assert told(exam(L5), finding(), numbering="uncertain")["W-13"]


def test_w14_names_both_values_and_changes_neither() -> None:
    said = told(exam(L5 | {"mrc.tibialis_anterior": "5", "fn.heel_walk": "unable"}), finding())["W-14"]
    assert said == [
        "Recorded values that do not fit together: right tibialis anterior MRC 5 / right heel walk unable; neither was changed."
    ]


def test_w15_when_no_deficit_is_recorded() -> None:
    assert told(exam(), finding())["W-15"]


def test_w18_where_sources_disagree() -> None:
    assert "W-18" in told(exam(L5, time__onset_days=5), finding())
    assert "W-18" not in told(exam({"sen.L5": "reduced"}), finding())


def test_w19_when_electrodiagnosis_was_used() -> None:
    case = exam(L5 | {"emg.paraspinal": "denervation"}, emg__days_after_onset=30)
    assert told(case, finding())["W-19"] == ["Electrodiagnostic results were used (30 days after onset)."]


def test_w16_is_the_last_sentence_and_the_disclaimer() -> None:
    result = assess(exam(L5), images(finding()))
    assert result.narrative[-1].sentences[-1].text == DISCLAIMER == result.disclaimer
    assert result.to_plain()["disclaimer"] == DISCLAIMER


def test_without_an_examination_findings_are_listed_and_nothing_is_judged() -> None:
    data = {
        "id": "r",
        "level": "L4-L5",
        "side": "left",
        "kind": "recess_stenosis",
        "severity": "severe",
        "basis": "test",
    }
    found = (Finding.model_validate(data),)
    held = (Withheld(level="L5-S1", side="left", kind="recess_stenosis", code="GAP", reason="slice gap too large"),)
    result = assess(None, imaging_from_report(found, held), findings=found, withheld=held)
    said = sentences(result)
    assert (result.concordance, result.exam) == (None, None)
    assert (result.triage.tier, [rule.id for rule in result.triage.rules]) == ("T3", ["TR-18"])
    assert "safety items not examined" in said["W-11"][0]
    assert said["flagged"] == ["Flagged: L4-L5 left lateral recess stenosis (severe)."]
    assert "slice gap too large" in said["W-10"][0]
    assert said["no_exam"]
    assert said["W-16"]


def test_a_reading_without_a_flag_is_not_called_normal() -> None:
    data = {
        "id": "r",
        "level": "L4-L5",
        "side": "left",
        "kind": "recess_stenosis",
        "severity": "normal_mild",
        "basis": "test",
    }
    found = (Finding.model_validate(data),)
    said = sentences(assess(None, imaging_from_report(found, ()), findings=found))
    assert said["none_flagged"] == ["No flag raised in the levels that were read."]
    assert sentences(assess(None, Imaging()))["nothing_read"]


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"ap_mm": 7.5}, "severity taken from the size beyond the disc margin."),
        ({"root_grade": 2}, "severity taken from the grade of the root."),
        (
            {"condition": "recess_stenosis", "recess_mm": 2.4},
            "severity taken from the depth of the recess (borderline).",
        ),
        ({"condition": "recess_stenosis", "recess_mm": 1.0}, "severity taken from the depth of the recess."),
        (
            {"condition": "canal_stenosis", "side": "both", "ap_mm": 9},
            "severity taken from the width or area of the canal.",
        ),
    ],
)
def test_a_severity_that_nobody_gave_says_from_what_it_was_taken(sizes: dict[str, Any], said: str) -> None:
    """IM-08 and IM-13: the rule that decided is printed; a grade that was given needs no ground."""
    assert told(exam(L5), finding(**{"severity": None, **sizes}))["graded_by"][0].endswith(said)
    assert "graded_by" not in told(exam(L5), finding())
