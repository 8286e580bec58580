"""Two readers: agreement, differences with their weights, and what cannot be compared; every way a grid may be written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from configs.clinical import second_read_rules
from inference.clinical import assess
from inference.clinical_input import ClinicalInputError
from inference.first_read import FirstRead
from inference.report import SecondRead
from inference.roots import Imaging
from inference.second_read import compare_imaging
from tests.inference.test_correlate import L5, exam, finding

RECESS = finding("L4-L5", "right", "recess_stenosis")
LEVELS = ["L3-L4", "L4-L5", "L5-S1"]


def grid(*cells: dict[str, Any], mentions: tuple[str, ...] = ()) -> FirstRead:
    return FirstRead.parse({"cells": list(cells), "mentions": list(mentions)})


def cell(
    severity: str | None,
    level: str = "L4-L5",
    condition: str = "recess_stenosis",
    side: str | None = "right",
    **more: Any,
) -> dict[str, Any]:
    return {"level": level, "condition": condition, "side": side, "severity": severity} | more


def compared(read: FirstRead, *findings: dict[str, Any], deficits: bool = False, **more: Any) -> SecondRead:
    imaging = Imaging.parse({"assessed": LEVELS, "findings": list(findings)} | more)
    if not deficits:
        return compare_imaging(read, imaging)
    result = assess(exam(L5, time__onset_days=30), imaging, read).second_read
    assert result is not None
    return result


def ids(result: SecondRead) -> list[str]:
    return [item.id for item in result.discrepancies]


def test_dc01_a_severe_finding_that_was_not_mentioned_at_a_root_the_patient_has() -> None:
    result = compared(grid(), RECESS, deficits=True)
    assert ids(result) == ["DC-01"]
    only = result.discrepancies[0]
    assert (only.weight, only.priority, only.flagged, only.direction) == (5, 10, True, "program_higher")
    assert (only.theirs, only.ours) == (None, "severe")


def test_dc05_the_same_finding_without_such_a_root_weighs_less() -> None:
    result = compared(grid(cell("normal_mild")), RECESS)
    assert ids(result) == ["DC-05"]
    assert (result.discrepancies[0].weight, result.discrepancies[0].priority) == (3, 3)


def test_dc02_sides_swapped() -> None:
    result = compared(grid(cell("severe", side="left")), RECESS)
    assert ids(result) == ["DC-02"]
    assert (result.discrepancies[0].theirs, result.discrepancies[0].ours) == ("left", "right")
    protrusion = finding(side="right")
    swapped = compared(grid(cell("severe", condition="herniation", side="left", type="extrusion")), protrusion)
    assert ids(swapped) == ["DC-02"]


def test_dc03_the_same_pattern_one_level_away() -> None:
    result = compared(grid(cell("severe", "L5-S1")), RECESS)
    assert ids(result) == ["DC-03"]


def test_dc03_needs_both_levels_to_have_been_read() -> None:
    result = compared(grid(cell("severe", "L5-S1")), RECESS, assessed=["L4-L5"])
    assert ids(result) == ["DC-05"]
    assert [row["reason"] for row in result.not_comparable] == ["not read here"]


def test_dc04_severe_for_the_reader_and_mild_here() -> None:
    result = compared(grid(cell("severe")))
    assert ids(result) == ["DC-04"]
    assert result.discrepancies[0].direction == "reader_higher"
    assert result.discrepancies[0].weight == 4


def test_dc06_another_zone_with_another_root() -> None:
    theirs = cell("severe", condition="herniation", zone="foraminal", type="extrusion")
    assert ids(compared(grid(theirs), finding())) == ["DC-06"]


def test_dc07_one_step_apart_prints_how_far_readers_agree() -> None:
    result = compared(grid(cell("moderate")), RECESS)
    assert ids(result) == ["DC-07"]
    assert result.discrepancies[0].note is not None
    assert "kappa 0.49" in result.discrepancies[0].note
    assert not result.discrepancies[0].flagged


def test_dc08_another_type_in_the_same_place() -> None:
    theirs = cell("severe", condition="herniation", zone="subarticular", type="protrusion")
    assert ids(compared(grid(theirs), finding())) == ["DC-08"]


def test_dc09_withheld_here_is_listed_and_is_no_discrepancy() -> None:
    held = finding("L4-L5", "right", "recess_stenosis", withheld="motion artefact")
    result = compared(grid(cell("severe")), held)
    assert result.discrepancies == ()
    assert result.not_comparable[0]["id"] == "DC-09"


def test_dc10_what_the_program_does_not_read_is_listed_first() -> None:
    result = compared(grid(cell("severe", "L1-L2"), mentions=("conus lesion",)), RECESS)
    assert result.not_comparable[0] == {
        "id": "DC-10",
        "theirs": "conus lesion",
        "reason": second_read_rules().find("DC-10").text,
    }


def test_dc11_blank_beside_normal_is_not_listed() -> None:
    result = compared(grid())
    assert (result.agreements, result.discrepancies, result.not_comparable) == ((), (), ())


def test_agreement_is_reported_as_agreement() -> None:
    theirs = cell("severe", condition="herniation", zone="subarticular", type="extrusion")
    result = compared(grid(cell("severe"), theirs), RECESS, finding())
    assert result.discrepancies == ()
    assert {row["kind"] for row in result.agreements} == {"recess_stenosis", "herniation"}


def test_a_moderate_finding_that_was_not_mentioned_is_listed_without_weight() -> None:
    result = compared(grid(), RECESS | {"severity": "moderate"})
    assert result.discrepancies == ()
    assert result.not_comparable[0]["reason"] == "not mentioned by the first reader"


def test_not_assessable_is_no_discrepancy() -> None:
    result = compared(grid(cell("not assessable")), RECESS)
    assert result.discrepancies == ()
    assert result.not_comparable[0]["reason"] == "not assessable for the first reader"


def test_the_heaviest_difference_comes_first() -> None:
    result = compared(grid(cell("moderate", condition="canal_stenosis", side=None)), RECESS)
    assert ids(result) == ["DC-05", "DC-07"]


def test_a_herniation_the_reader_denies() -> None:
    none = cell(None, condition="herniation", side="midline", type="none")
    assert ids(compared(grid(none), finding())) == ["DC-05"]
    assert compared(grid(none)).agreements[0]["type"] == "none"


@pytest.mark.parametrize(
    "data",
    [
        {"cells": [cell("Moderate", "L4/L5")]},
        [cell("moderate")],
        {"L4-L5": {"recess_stenosis": {"right": "moderate"}}},
        {"L4/L5": {"Right Subarticular Stenosis": "Moderate"}},
        {"right_subarticular_stenosis_l4_l5": "Moderate", "left_subarticular_stenosis_l4_l5": None},
    ],
)
def test_every_way_of_writing_a_grid_gives_the_same_cell(data: object) -> None:
    only = FirstRead.parse(data).cells
    assert [(item.level, item.condition, item.side, item.severity) for item in only] == [
        ("L4-L5", "recess_stenosis", "right", "moderate")
    ]


def test_a_herniation_may_be_written_by_its_sides_like_any_other_cell() -> None:
    read = FirstRead.parse({"L4-L5": {"herniation": {"right": "severe"}, "recess_stenosis": {"right": "moderate"}}})
    assert [(c.condition, c.side, c.severity) for c in read.cells] == [
        ("herniation", "right", "severe"),
        ("recess_stenosis", "right", "moderate"),
    ]


def test_a_wide_table_in_rsna_naming(tmp_path: Path) -> None:
    path = tmp_path / "read.csv"
    path.write_text(
        "study_id,spinal_canal_stenosis_l4_l5,left_neural_foraminal_narrowing_l5_s1,right_subarticular_stenosis_l4_l5\n"
        "1,Normal/Mild,,Severe\n"
    )
    found = {(item.level, item.condition, item.side): item.severity for item in FirstRead.load(path).cells}
    assert found == {
        ("L4-L5", "canal_stenosis", None): "normal_mild",
        ("L4-L5", "recess_stenosis", "right"): "severe",
    }


def test_a_long_table(tmp_path: Path) -> None:
    path = tmp_path / "read.csv"
    path.write_text(
        "level,condition,side,severity,zone,type\n"
        "L4-L5,herniation,right,Severe,subarticular,extrusion\n"
        "L4-L5,Left Subarticular Stenosis,,Moderate,,\n"
        "L5-S1,spinal_canal_stenosis,,,,\n"
    )
    cells = FirstRead.load(path).cells
    assert [(item.condition, item.side, item.type) for item in cells] == [
        ("herniation", "right", "extrusion"),
        ("recess_stenosis", "left", None),
    ]


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"cells": [cell("terrible")]}, "first_read.cells.0.severity"),
        ({"cells": [cell("severe", "L6-S1")]}, "first_read.cells.0.level"),
        ({"cells": [cell("severe", condition="scoliosis")]}, "first_read.cells.0.condition"),
        ({"cells": [cell("severe", side=None)]}, "first_read.cells.0"),
        ({"cells": [cell("severe") | {"colour": "red"}]}, "first_read.cells.0.colour"),
        ({"cells": [cell("severe"), cell("moderate")]}, "first_read.L4-L5.recess_stenosis"),
        ({"L4-L5": "severe"}, "first_read.L4-L5"),
        ({"tumour": "yes"}, "first_read.tumour"),
        ("text", "first_read"),
    ],
)
def test_a_grid_that_cannot_be_used_is_refused_with_its_cell(data: object, path: str) -> None:
    with pytest.raises(ClinicalInputError) as caught:
        FirstRead.parse(data)
    assert caught.value.path == path


def test_several_studies_in_one_table_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "read.csv"
    path.write_text("study_id,spinal_canal_stenosis_l4_l5\n1,Severe\n2,Severe\n")
    with pytest.raises(ClinicalInputError, match="one row"):
        FirstRead.load(path)
