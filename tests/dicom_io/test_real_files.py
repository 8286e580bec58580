"""Real files, where they are on this machine: every one gets a declared outcome, and the real study its roles."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from dicom_io import read_outcomes, read_study
from dicom_io.errors import NoUsableSeries, UnreadableInput
from dicom_io.ingest import _UNREADABLE
from dicom_io.intake import opened
from dicom_io.isolation import examine_all


@pytest.fixture(scope="module")
def vendor_rows(recess_data: Path) -> list[dict[str, str]]:
    path = recess_data / "dicom-vendors" / "manifest.csv"
    if not path.is_file():
        pytest.skip("the vendor files are not on this machine")
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_every_vendor_object_has_a_declared_outcome(recess_data: Path, vendor_rows: list[dict[str, str]]) -> None:
    with opened([recess_data / "dicom-vendors" / row["path"] for row in vendor_rows]) as entries:
        examined = list(examine_all(entries))
    assert len(examined) == len(vendor_rows)
    assert all(item.verdict.state == "accepted" or item.verdict.code for item in examined)
    assert not {item.verdict.code for item in examined} & {"INTERNAL", "CHILD_DIED", "CHILD_TIME", "CHILD_PROTOCOL"}


def test_what_is_unreadable_is_told_from_what_is_not_lumbar(
    recess_data: Path, vendor_rows: list[dict[str, str]]
) -> None:
    wrong = []
    for folder in sorted({Path(row["path"]).parent for row in vendor_rows}):
        rows = [row for row in vendor_rows if Path(row["path"]).parent == folder]
        expected = {row["expected_decision"] for row in rows}
        if len(expected) > 1:
            continue
        try:
            outcomes = read_outcomes(recess_data / "dicom-vendors" / folder)
        except UnreadableInput:
            outcome = "unreadable"
        except NoUsableSeries:
            outcome = "refused"
        else:
            outcome = "refused" if all(isinstance(item, NoUsableSeries) for item in outcomes) else "taken"
        if (outcome == "unreadable") != (expected == {"unreadable"}):
            wrong.append((folder.name, outcome, expected))
    assert wrong == []


def test_single_unreadable_files_are_unreadable_input(recess_data: Path, vendor_rows: list[dict[str, str]]) -> None:
    for row in vendor_rows:
        if row["expected_decision"] == "unreadable":
            with pytest.raises(UnreadableInput):
                read_study(recess_data / "dicom-vendors" / row["path"])


def test_codes_that_mean_unreadable_are_in_the_catalogue() -> None:
    from dicom_io.codes import ALL

    assert set(ALL) >= _UNREADABLE


def test_roles_of_the_real_study_are_told_from_its_pixels(recess_data: Path) -> None:
    folder = recess_data / "rsna" / "100206310"
    if not folder.is_dir():
        pytest.skip("the real study is not on this machine")
    study = read_study(folder)
    roles = {stack.series_instance_uid.split(".")[-1]: stack.role for stack in study.stacks}
    assert roles == {"1012284084": "axial_t2", "1792451510": "sagittal_t2_fs", "2092806862": "sagittal_t1"}
    codes = {notice.code for notice in study.warnings}
    assert codes == {"MODALITY_ABSENT", "CLASS_ABSENT", "SOP_UID_REPEATED", "FOR_MISMATCH"}
    assert study.objects == 96
    assert sum(stack.volume.grid.shape[0] for stack in study.stacks) == 96
    assert study.excluded == ()
