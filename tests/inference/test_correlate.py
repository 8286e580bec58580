"""Routes of roots, likelihood ratios and verdicts on worked cases: who is compressed, who is dismissed, what stays open."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from inference.clinical_input import ClinicalInputError
from inference.clinical_missing import first_missing
from inference.correlate import correlate
from inference.exam import Exam
from inference.report import Concordance, Finding, Measurement, MissingItem, Withheld
from inference.roots import (
    Imaging,
    ImagingFinding,
    grade_of,
    imaging_from_report,
    narrows_canal,
    reach,
    root_ratios,
    severity_of,
)

TA = "mrc.tibialis_anterior"
EHL = "mrc.extensor_hallucis_longus"
TP = "mrc.tibialis_posterior"
GM = "mrc.gluteus_medius"
L5: dict[str, Any] = {TA: "3", EHL: "3", TP: "4", GM: "4", "mrc.peronei": "4", "mrc.gastrocnemius": "5"}
L5 |= {"mrc.quadriceps": "5", "sen.L5": "reduced", "sen.L4": "normal", "sen.S1": "normal", "ref.patellar": 2}
L5 |= {"ref.achilles": 2, "ten.slr_deg": 45, "pain.distribution": ["L5"]}
WELL = {"attest.remaining_normal": ["all"]}
STABLE: dict[str, Any] = {"pt.age": 50, "time.onset_days": 20, "time.course": "stable", "attest.safety_negative": True}
ALL = ["L2-L3", "L3-L4", "L4-L5", "L5-S1"]


def finding(level: str = "L4-L5", side: str = "right", condition: str = "herniation", **more: Any) -> dict[str, Any]:
    base: dict[str, Any] = {"level": level, "side": side, "condition": condition}
    if condition == "herniation":
        base |= {"zone": "subarticular", "type": "extrusion"}
    if "withheld" not in more:
        base["severity"] = "severe"
    return base | more


def images(*findings: dict[str, Any], **more: Any) -> Imaging:
    return Imaging.parse({"assessed": ALL, "findings": list(findings)} | more)


def exam(right: dict[str, Any] | None = None, left: dict[str, Any] | None = None, **general: Any) -> Exam:
    named = {key.replace("__", "."): value for key, value in general.items()}
    return Exam.parse(
        {"general": STABLE | named, "right": WELL if right is None else right, "left": WELL if left is None else left}
    )


def judged(case: Exam, *findings: dict[str, Any], **more: Any) -> Concordance:
    return correlate(case, images(*findings, **more))


def verdict(result: Concordance, number: int = 0) -> tuple[str, tuple[str, ...]]:
    return result.per_finding[number].verdict, result.per_finding[number].rules


@pytest.mark.parametrize(
    ("rule", "given", "roots"),
    [
        ("RA-01", finding("L4-L5"), {"right:L5"}),
        ("RA-01", finding("L5-S1"), {"right:S1"}),
        ("RA-01", finding("L3-L4", condition="recess_stenosis"), {"right:L4"}),
        ("RA-02", finding("L4-L5", zone="foraminal"), {"right:L4"}),
        ("RA-02", finding("L5-S1", zone="extraforaminal"), {"right:L5"}),
        ("RA-02", finding("L5-S1", condition="foraminal_stenosis", side="left"), {"left:L5"}),
        ("RA-03", finding("L4-L5", migration={"dir": "up", "mm": 5.0}), {"right:L5", "right:L4"}),
        ("RA-03", finding("L4-L5", migration={"dir": "up", "mm": 4.9}), {"right:L5"}),
        ("RA-03", finding("L4-L5", migration={"dir": "down", "mm": 9.0}), {"right:L5"}),
        ("RA-03", finding("L5-S1", migration={"dir": "up", "mm": 8.0}), {"right:S1", "right:L5"}),
        ("RA-03", finding("L3-L4", migration={"dir": "up", "mm": 8.0}), {"right:L4", "right:L3"}),
        ("RA-03", finding("L5-S1", zone="central", migration={"dir": "down", "mm": 8.0}), {"right:S1"}),
        ("RA-04", finding("L4-L5", zone="central", side="midline"), {"left:L5", "right:L5", "left:S1", "right:S1"}),
        ("RA-04", finding("L5-S1", condition="canal_stenosis", side="both"), {"left:S1", "right:S1"}),
        ("RA-04", finding("L5-S1", zone="central", side="left"), {"left:S1"}),
        ("RA-07", finding("L1-L2", condition="canal_stenosis", side="both"), set()),
        ("RA-10", finding("L4-L5", zone=None), set()),
        (
            "RA-10",
            finding("L4-L5", zone=None, type="bulge", side="midline"),
            {"left:L5", "right:L5", "left:S1", "right:S1"},
        ),
    ],
)
def test_a_finding_endangers_the_roots_on_its_way(rule: str, given: dict[str, Any], roots: set[str]) -> None:
    reached = reach(ImagingFinding.model_validate(given)).endangered()
    assert {f"{side}:{root}" for side, root in reached} == roots


@pytest.mark.parametrize(
    ("given", "grade"),
    [
        ({"type": "bulge", "severity": "normal_mild"}, 0),
        ({"type": "bulge", "severity": "severe"}, 1),
        ({"type": "protrusion", "severity": "normal_mild"}, 0),
        ({"type": "protrusion", "severity": "severe"}, 2),
        ({"type": "extrusion", "severity": "moderate"}, 2),
        ({"type": "sequestration", "severity": "severe"}, 3),
        ({"type": "extrusion", "severity": "severe", "root_grade": 1}, 1),
        ({"condition": "recess_stenosis", "severity": "severe"}, 2),
        ({"condition": "recess_stenosis", "severity": "moderate"}, 1),
    ],
)
def test_grade_comes_from_the_root_grade_else_from_type_and_severity(given: dict[str, Any], grade: int) -> None:
    one = images(finding(**given))
    assert grade_of(one.findings[0], one) == grade


@pytest.mark.parametrize(
    ("sizes", "severity"),
    [
        ({"type": "bulge", "ap_mm": 9.0}, "normal_mild"),
        ({"ap_mm": 7.0}, "severe"),
        ({"ap_mm": 6.9}, "moderate"),
        ({"ap_mm": 3.9}, "normal_mild"),
        ({"root_grade": 3}, "severe"),
        ({"root_grade": 2, "ap_mm": 3.0}, "moderate"),
    ],
)
def test_a_herniation_without_a_grade_gets_one_from_its_measurements(sizes: dict[str, Any], severity: str) -> None:
    """IM-13."""
    one = images(finding() | {"severity": None} | sizes)
    assert severity_of(one.findings[0], one)[0] == severity


def test_a_sac_half_as_wide_as_next_door_makes_a_herniation_severe() -> None:
    """IM-13."""
    beside = finding("L3-L4", "both", "canal_stenosis", severity="normal_mild", area_mm2=120.0)
    one = images(finding(severity=None, area_mm2=59.0), beside)
    assert severity_of(one.findings[0], one) == ("severe", "sac_beside")


@pytest.mark.parametrize(
    ("mm", "severity"), [(2.0, "severe"), (2.1, "moderate"), (3.6, "moderate"), (3.7, "normal_mild")]
)
def test_a_recess_without_a_grade_is_graded_by_its_depth(mm: float, severity: str) -> None:
    """IM-08."""
    one = images(finding(condition="recess_stenosis", severity=None, recess_mm=mm))
    assert severity_of(one.findings[0], one)[0] == severity


def test_migration_sets_how_strongly_roots_are_reached() -> None:
    up = reach(ImagingFinding.model_validate(finding("L5-S1", migration={"dir": "up", "mm": 8.0}))).strength
    assert up == {("right", "S1"): 1.0, ("right", "L5"): 0.7}
    down = reach(ImagingFinding.model_validate(finding("L4-L5", zone="central", migration={"dir": "down", "mm": 8.0})))
    assert down.strength == {("right", "L5"): 1.0, ("right", "S1"): 0.4}


def test_likelihood_ratios_of_roots() -> None:
    ratios = root_ratios(images(finding(root_grade=3)))
    assert ratios["right", "L5"] == pytest.approx(8)
    assert ratios["right", "S1"] == pytest.approx(8**0.15)
    assert ratios["left", "L5"] == pytest.approx(0.35)
    assert ratios["right", "L4"] == pytest.approx(0.35)


def test_of_several_findings_on_a_root_the_largest_ratio_counts() -> None:
    both = images(finding(root_grade=2), finding("L5-S1", condition="foraminal_stenosis", root_grade=1))
    assert root_ratios(both)["right", "L5"] == pytest.approx(4)


def test_a_route_that_was_not_read_or_is_withheld_leaves_its_root_open() -> None:
    """RA-05: both routes of L5 are needed before it is called free."""
    assert root_ratios(images(assessed=["L4-L5"]))["left", "L5"] == 1
    sites = [{"level": "L4-L5", "sites": ["disc", "recess"]}, {"level": "L5-S1", "sites": ["disc", "recess"]}]
    assert root_ratios(images(assessed=sites))["left", "L5"] == 1
    assert root_ratios(images(assessed=sites))["left", "S1"] == pytest.approx(0.35)
    withheld = finding(condition="recess_stenosis", withheld="motion artefact")
    assert root_ratios(images(withheld))["right", "L5"] == 1
    assert root_ratios(images(finding(zone=None)))["right", "L5"] == 1


def test_a_recess_on_the_convex_side_of_a_scoliosis_weighs_more() -> None:
    """RA-06."""
    recess = finding(condition="recess_stenosis", root_grade=2)
    assert root_ratios(images(recess, scoliosis_convex="right"))["right", "L5"] == pytest.approx(6)
    assert root_ratios(images(recess, scoliosis_convex="left"))["right", "L5"] == pytest.approx(4)


def test_uncertain_numbering_weakens_what_images_say() -> None:
    """RA-08."""
    ratios = root_ratios(images(finding(root_grade=2), numbering="uncertain"))
    assert ratios["right", "L5"] == pytest.approx(2)
    assert ratios["left", "L5"] == 1


def test_only_a_large_central_or_canal_finding_raises_cauda_equina() -> None:
    assert narrows_canal(images(finding(side="midline", zone="central")))
    assert not narrows_canal(images(finding(side="midline", zone="central", root_grade=1)))
    assert not narrows_canal(images(finding()))


@pytest.mark.parametrize("blank", [TP, GM])
def test_a_muscle_that_was_not_examined_is_not_full(blank: str) -> None:
    """DX-02 asks for full inversion and full abduction, and a blank is neither."""
    both = {TA: "3", TP: "5", GM: "5", "mrc.quadriceps": "5"}
    assert "DX-02" in judged(exam(both)).rules_fired
    assert "DX-02" not in judged(exam({name: grade for name, grade in both.items() if name != blank})).rules_fired


@pytest.mark.parametrize("side", ["left", "right", "both", "midline"])
def test_canal_stenosis_acts_on_both_sides_whatever_side_is_written(side: str) -> None:
    (found,) = images({"level": "L4-L5", "side": side, "condition": "canal_stenosis", "severity": "severe"}).findings
    assert set(reach(found).endangered()) == {(s, r) for s in ("left", "right") for r in ("L5", "S1")}


def test_images_alone_never_implicate_a_root() -> None:
    """With the images L5 is favoured, but the examination alone does not point there."""
    result = judged(exam({TA: "4", TP: "5"}), finding(root_grade=3))
    belief = next(item for item in result.roots if (item.side, item.root) == ("right", "L5"))
    assert belief.p_with_imaging >= 0.5
    assert belief.p_exam_only < 0.3
    assert "right:L5" not in result.roots_implicated


def test_v01_a_fitting_extrusion_explains() -> None:
    """S-01."""
    result = judged(exam(L5), finding())
    assert (result.verdict, verdict(result)) == ("concordant", ("explains", ("V-01",)))
    assert result.roots_implicated == ("right:L5",)
    assert result.unexplained_deficits == ()
    assert {"S-01", "DX-01", "RA-01"} <= set(result.rules_fired)


def test_the_same_extrusion_on_the_other_side_explains_nothing() -> None:
    """V-03, V-07, S-03."""
    result = judged(exam(L5), finding(side="left"))
    assert (result.verdict, verdict(result)) == ("discordant", ("does_not_explain", ("V-03", "V-07")))
    assert "right:mrc.tibialis_anterior" in result.unexplained_deficits


def test_one_level_lower_the_extrusion_does_not_explain_an_l5_deficit() -> None:
    result = judged(exam(L5), finding("L5-S1"))
    assert verdict(result) == ("does_not_explain", ("V-03",))


def test_v02_a_slight_contact_contributes() -> None:
    """S-02."""
    result = judged(exam(L5), finding(root_grade=1))
    assert (result.verdict, verdict(result)) == ("partly_concordant", ("contributes", ("V-02",)))
    assert "S-02" in result.rules_fired


def test_v05_a_finding_of_grade_zero_never_explains() -> None:
    assert verdict(judged(exam(L5), finding(root_grade=0))) == ("does_not_explain", ("V-05",))


def test_v04_evidence_that_points_neither_way_is_left_open() -> None:
    case = exam(
        {
            TA: "4",
            TP: "5",
            GM: "5",
            EHL: "4",
            "sen.L5": "reduced",
            "sen.S1": "reduced",
            "ref.achilles": 1,
            "ten.slr_deg": 40,
        }
    )
    result = judged(case, finding(condition="recess_stenosis"))
    assert verdict(result)[0] in {"indeterminate", "contributes"}


def test_v06_there_is_nothing_to_explain_in_a_full_normal_examination() -> None:
    """S-06."""
    result = judged(exam(), finding())
    assert (result.verdict, verdict(result)) == ("indeterminate", ("does_not_explain", ("V-06",)))
    assert "S-06" in result.rules_fired


def test_a_finding_on_the_side_that_was_not_examined_is_never_dismissed() -> None:
    """M-06, CAP-04: a blank leg is not a normal one."""
    assert verdict(judged(exam({}, WELL), finding())) == ("indeterminate", ("CAP-04",))
    assert verdict(judged(exam(WELL, {}), finding())) == ("does_not_explain", ("V-06",))


def test_cap01_a_withheld_finding_is_left_open_and_may_hold_the_route() -> None:
    """S-04."""
    result = correlate(
        exam(L5),
        images(finding(condition="recess_stenosis", withheld="motion artefact"), assessed=["L3-L4", "L5-S1"]),
    )
    assert (result.verdict, verdict(result)) == ("indeterminate", ("indeterminate", ("CAP-01",)))
    assert "S-04" in result.rules_fired
    assert result.withheld_share > 0.3


def test_cap02_a_thin_examination_caps_the_verdict() -> None:
    thin = {TA: "3", TP: "4", "sen.L5": "reduced", "ten.slr_deg": 40}
    verdict_, rules = verdict(judged(exam(thin, {}), finding()))
    assert (verdict_, "CAP-02" in rules) == ("contributes", True)


def test_cap03_uncertain_numbering_caps_both_ways() -> None:
    fits = judged(exam(L5), finding(), numbering="uncertain")
    assert fits.verdict == "partly_concordant"
    assert verdict(fits) == ("contributes", ("V-01", "CAP-03"))
    misfit = judged(exam(L5), finding(side="left"), numbering="uncertain")
    assert misfit.verdict == "indeterminate"
    assert verdict(misfit)[0] == "indeterminate"
    assert "CAP-03" in verdict(misfit)[1]


def test_cap04_too_little_was_examined() -> None:
    """S-05."""
    result = judged(exam({TA: "3"}, {}), finding())
    assert (result.verdict, verdict(result)) == ("indeterminate", ("indeterminate", ("CAP-04",)))
    assert "S-05" in result.rules_fired


def test_cap05_pain_alone_is_never_fully_explained() -> None:
    pain = WELL | {
        "attest.remaining_normal": ["motor"],
        "ten.slr_deg": 30,
        "ten.slump": "positive",
        "pain.distribution": ["L5"],
    }
    pain |= {"ten.crossed_slr": "positive"}
    result = judged(exam(pain), finding(root_grade=3))
    assert not result.deficit_recorded
    assert verdict(result) == ("contributes", ("V-01", "CAP-05"))


def test_cap06_a_foot_drop_without_the_muscles_that_tell_the_nerve_from_the_root() -> None:
    """DX-03, N-01."""
    thin = {key: value for key, value in L5.items() if key not in {TP, GM}}
    result = judged(exam(thin), finding())
    assert verdict(result) == ("contributes", ("V-01", "CAP-06"))
    assert {"DX-03", "N-01"} <= set(result.rules_fired)
    assert [item.field for item in result.missing[:2]] == ["right:mrc.tibialis_posterior", "right:mrc.gluteus_medius"]
    assert "CPN" in {item.name for item in result.alternatives}
    told = judged(exam(thin | {"emg.paraspinal": "denervation"}, emg__days_after_onset=30), finding())
    assert "CAP-06" not in verdict(told)[1]


def test_cap07_an_operated_level_is_capped() -> None:
    assert verdict(judged(exam(L5), finding(post_op=True))) == ("contributes", ("V-01", "CAP-07"))


def test_cap08_claudication_is_not_tested_at_rest() -> None:
    walking = exam(pain__claudication="neurogenic")
    canal = finding(side="both", condition="canal_stenosis")
    assert verdict(judged(walking, canal)) == ("indeterminate", ("CAP-08",))
    assert verdict(judged(exam(), canal)) == ("does_not_explain", ("V-06",))
    assert verdict(judged(walking, finding())) == ("does_not_explain", ("V-06",))


def test_cap09_bladder_signs_keep_a_canal_finding_open() -> None:
    weak_thigh = {"mrc.quadriceps": "3", "ref.patellar": 0, "sen.L3": "absent", "ten.femoral_stretch": "positive"}
    case = exam(L5 | weak_thigh | {"mrc.iliopsoas": "3"}, bb__urinary_incontinence=True)
    result = judged(case, finding("L5-S1", "both", "canal_stenosis", root_grade=2))
    assert verdict(result)[0] in {"indeterminate", "contributes"}
    assert set(verdict(result)[1]) <= {"CAP-09", "V-02"}


def test_ra07_a_finding_above_the_modelled_roots_is_not_dismissed() -> None:
    conus = finding("L1-L2", "both", "canal_stenosis")
    assert verdict(judged(exam(L5), conus)) == ("indeterminate", ("RA-07",))
    assert verdict(judged(exam(), conus)) == ("does_not_explain", ("V-06",))
    thigh = {
        "mrc.iliopsoas": "4",
        "mrc.quadriceps": "4",
        "mrc.gastrocnemius": "5",
        TA: "5",
        "ref.achilles": 2,
        "sen.S1": "normal",
    }
    foramen = finding("L2-L3", condition="foraminal_stenosis")
    assert verdict(judged(exam(thigh), foramen)) == ("indeterminate", ("RA-07",))
    assert verdict(judged(exam(L5), foramen)) == ("does_not_explain", ("V-03",))


def test_ra10_a_herniation_without_zone_is_not_dismissed() -> None:
    assert verdict(judged(exam(L5), finding(zone=None))) == ("indeterminate", ("RA-10",))


def test_no_images_give_no_study_verdict() -> None:
    result = correlate(exam(L5), None)
    assert (result.verdict, result.per_finding) == ("indeterminate", ())
    assert "S-05" in result.rules_fired


def test_images_never_implicate_a_root_by_themselves() -> None:
    result = judged(exam({}, {}), finding(), finding("L5-S1"))
    assert result.roots_implicated == ()


def test_a_peroneal_palsy_next_to_an_incidental_finding() -> None:
    """DX-02, N-02, N-03."""
    palsy = {TA: "2", EHL: "2", "mrc.peronei": "3", TP: "5", GM: "5", "mrc.gastrocnemius": "5", "mrc.quadriceps": "5"}
    palsy |= {"sen.L5": "reduced", "sen.S1": "normal", "ref.patellar": 2, "ref.achilles": 2, "ten.slr_deg": "negative"}
    palsy |= {"per.tinel": "positive", "pain.distribution": []}
    result = judged(exam(palsy), finding(type="protrusion", severity="moderate"))
    assert result.verdict == "discordant"
    assert {"DX-02", "N-02", "N-03"} <= set(result.rules_fired)
    cause = next(item for item in result.alternatives if item.name == "CPN")
    assert (cause.side, cause.band) == ("right", "strongly_favoured")
    assert "right:mrc.tibialis_anterior" in cause.for_
    assert any("peroneal nerve conduction" in text for text in result.next_tests)


def test_a_nerve_lesion_is_listed_on_each_side_where_it_is() -> None:
    both = exam({TA: "3", TP: "5", GM: "5"}, {TA: "3", TP: "5", GM: "5"})
    listed = [(item.name, item.side) for item in correlate(both, None).alternatives]
    assert {("CPN", "left"), ("CPN", "right")} <= set(listed)
    one = exam({TA: "3", TP: "5", GM: "5"})
    assert [side for name, side in [(a.name, a.side) for a in correlate(one, None).alternatives] if name == "CPN"] == [
        "right"
    ]


def test_the_list_of_missing_items_never_ends_between_the_two_sides() -> None:
    """The last item that is shown brings its twin of the other side with it."""
    items = [MissingItem(field=f"{side}:sen.L5", expected_information=0.2) for side in ("left", "right")]
    assert [item.field for item in first_missing(items, 1)] == ["left:sen.L5", "right:sen.L5"]
    assert len(first_missing([items[0], MissingItem(field="right:sen.S1", expected_information=0.2)], 1)) == 1


Pattern = tuple[str, Exam, Exam]
PATTERNS: list[Pattern] = [
    ("DX-01", exam({EHL: "4", GM: "4"}), exam({EHL: "4", GM: "5"})),
    ("DX-02", exam({TA: "4", TP: "5", GM: "5"}), exam({TA: "4", TP: "5", GM: "5", "ref.patellar": 1})),
    ("DX-03", exam({"fn.heel_walk": "unable"}), exam({TA: "4", "fn.trendelenburg": False})),
    (
        "DX-04",
        exam({TA: "4", "mrc.peronei": "5", TP: "5"}),
        exam({TA: "4", "mrc.peronei": "5", TP: "5", "sen.L5": "absent"}),
    ),
    ("DX-05", exam({TA: "4", "ref.achilles": 0}), exam({TA: "4", "ref.achilles": 0, GM: "4"})),
    ("DX-05", exam({TA: "4", "com.hip_surgery": True}), exam({TA: "5", "com.hip_surgery": True})),
    ("DX-06", exam({TA: "4", GM: "4", "mrc.quadriceps": "4"}), exam({TA: "4", EHL: "4", GM: "4"})),
    (
        "DX-07",
        exam({"sen.stocking": "present"}, {"sen.stocking": "present"}),
        exam({"sen.stocking": "present"}, {"ref.achilles": 0}),
    ),
    (
        "DX-08",
        exam({TA: "4", "umn.fasciculation": "present"}),
        exam({TA: "4", "umn.fasciculation": "present", "sen.L5": "reduced"}),
    ),
    ("DX-09", exam({"ref.achilles": 3}), exam({"ref.achilles": 2})),
    (
        "DX-09",
        exam({TA: "3"}, time__course="sudden", time__onset_days=2),
        exam({TA: "3", "pain.leg_nrs": 4}, time__course="sudden", time__onset_days=2),
    ),
    ("DX-10", exam(bb__pvr_ml=250), exam(bb__pvr_ml=150)),
    ("DX-11", exam({"fn.flail_foot": True}), exam({TA: "0"})),
    (
        "DX-12",
        exam({TA: "4", "mrc.iliopsoas": "4"}, {TA: "4", "mrc.iliopsoas": "4"}),
        exam({TA: "4", "mrc.iliopsoas": "4"}, {TA: "4", "mrc.iliopsoas": "4", "ref.patellar": 0}),
    ),
    ("DX-13", exam({"fn.toe_raise_count": 4}), exam({"fn.toe_raise_count": 10})),
    ("DX-14", exam({"ref.patellar": 0}), exam({"ref.patellar": 2})),
    ("DX-15", exam({"ncs.sural": "normal"}), exam({})),
    (
        "DX-17",
        exam({TA: "4", "ref.achilles": 0}, {TA: "4", "ref.achilles": 0}),
        exam({TA: "4", "ref.achilles": 0}, {TA: "4", "ref.achilles": 0}, time__onset_days=43),
    ),
    (
        "DX-18",
        exam({"mrc.iliopsoas": "4", "mrc.quadriceps": "4"}, com__diabetes=True),
        exam({"mrc.iliopsoas": "4", "mrc.quadriceps": "4"}),
    ),
]


@pytest.mark.parametrize(("rule", "fires", "quiet"), PATTERNS, ids=[f"{row[0]}-{n}" for n, row in enumerate(PATTERNS)])
def test_pattern_fires_and_stays_quiet(rule: str, fires: Exam, quiet: Exam) -> None:
    assert rule in correlate(fires, None).rules_fired
    assert rule not in correlate(quiet, None).rules_fired


@pytest.mark.parametrize(
    ("case", "cause"),
    [
        (exam({TA: "4"}, {}), "CPN"),
        (exam({TA: "4", "com.hip_surgery": True, GM: "4", TP: "4"}), "SCI"),
        (exam({TA: "4", "umn.fasciculation": "present"}), "MND"),
        (exam({"umn.babinski": "present"}), "CEN"),
        (exam(bb__retention=True), "CES"),
        (exam({"mrc.iliopsoas": "4", "mrc.quadriceps": "4"}, rf__cancer=True), "PLX"),
    ],
)
def test_some_patterns_always_list_their_cause(case: Exam, cause: str) -> None:
    assert cause in {item.name for item in correlate(case, None).alternatives}


def test_dx16_root_and_nerve_together() -> None:
    both = L5 | {
        TA: "2",
        EHL: "2",
        TP: "4",
        GM: "4",
        "mrc.peronei": "2",
        "per.tinel": "positive",
        "ncs.peroneal_block": "present",
    }
    both |= {"emg.paraspinal": "denervation", "per.compression_history": "present", "ncs.sup_peroneal_snap": "absent"}
    assert "DX-16" in judged(exam(both, emg__days_after_onset=40), finding()).rules_fired


def test_more_evidence_for_l5_raises_l5() -> None:
    def belief(values: dict[str, Any]) -> float:
        result = correlate(exam(values), None)
        return next(item.p_exam_only for item in result.roots if (item.side, item.root) == ("right", "L5"))

    assert belief({EHL: "4"}) < belief({EHL: "4", GM: "4"}) < belief({EHL: "4", GM: "4", TP: "4"})
    assert belief({EHL: "4"}) > belief({EHL: "5"})


def report_finding(kind: str, side: str, severity: str = "normal_mild", **more: Any) -> Finding:
    data = {"id": f"{kind}-{side}", "level": "L4-L5", "side": side, "kind": kind, "severity": severity, "basis": "test"}
    return Finding.model_validate(data | more)


def test_a_report_is_handed_over_without_inventing_normal_sites() -> None:
    size = Measurement(name="recess_mm", value=1.4, unit="mm")
    imaging = imaging_from_report(
        (
            report_finding("herniation", "midline", type="none"),
            report_finding("recess_stenosis", "left", "severe", measurements=(size,)),
            report_finding("disc_degeneration", "midline"),
        ),
        (Withheld(level="L4-L5", side="right", kind="recess_stenosis", code="GAP", reason="slice gap too large"),),
    )
    assert imaging.findings[0].id == "recess_stenosis-left"
    assert imaging.findings[0].recess_mm == 1.4
    assert imaging.findings[1].withheld == "slice gap too large"
    assert imaging.was_read("L4-L5", "disc")
    for site in ("recess", "canal", "foramen"):
        assert not imaging.was_read("L4-L5", site)
    assert root_ratios(imaging)["right", "L5"] == 1


def test_a_herniation_of_type_none_reads_its_disc_and_is_no_finding() -> None:
    imaging = Imaging.parse(
        {"findings": [{"level": "L5-S1", "side": "midline", "condition": "herniation", "type": "none"}]}
    )
    assert imaging.findings == ()
    assert imaging.was_read("L5-S1", "disc")
    assert not imaging.was_read("L5-S1", "recess")


def test_the_published_schema_takes_a_level_by_its_name() -> None:
    schema = Imaging.model_json_schema()
    name, written = schema["$defs"]["AssessedLevel"]["anyOf"]
    assert "L4-L5" in name["enum"]
    assert set(written["properties"]) == {"level", "sites"}
    assert Imaging.parse({"assessed": ["L4-L5"], "findings": None}).was_read("L4-L5", "foramen")


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"findings": [finding(level="L6-S1")]}, "imaging.findings.0.level"),
        ({"findings": [finding(side="middle")]}, "imaging.findings.0.side"),
        ({"findings": [finding() | {"id": "benign, no treatment"}]}, "imaging.findings.0.id"),
        ({"findings": [finding() | {"colour": "red"}]}, "imaging.findings.0.colour"),
        ({"findings": [finding(withheld="x") | {"severity": "severe"}]}, "imaging.findings.0"),
        ({"findings": [{"level": "L4-L5", "side": "left", "condition": "recess_stenosis"}]}, "imaging.findings.0"),
        ({"numbering": "maybe"}, "imaging.numbering"),
        ({"assessed": ["L9"]}, "imaging.assessed.0.level"),
        ([1], "imaging"),
        ({"schema": "recess.report/1"}, "report.id"),
    ],
)
def test_findings_that_cannot_be_used_are_refused_with_their_path(data: Any, path: str) -> None:
    with pytest.raises(ClinicalInputError) as caught:
        Imaging.parse(data)
    assert caught.value.path.startswith(path)


def test_the_clinical_half_imports_no_network_library() -> None:
    code = (
        "import sys; from inference.clinical import assess; from inference.exam import Exam; from inference.roots import Imaging;"
        "assess(Exam.parse({'right': {'mrc.quadriceps': 4}}), Imaging());"
        "bad = {'torch', 'monai', 'models'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
