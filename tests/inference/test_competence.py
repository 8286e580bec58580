"""Doubts: each has its sentence and its reason in every language, touches what it names, and follows its limit."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from configs.clinical import languages, words
from dicom_io import read_study
from inference.analyze import Engine, analyze
from inference.axial_doubts import AxialMeasures, level_doubts, picture_code, with_common_shift
from inference.clinical_words import forbidden, reason_withheld
from inference.column_doubts import ColumnMeasures, doubts_of, fat_to_neighbours
from inference.competence import ALL, REASONS, SENTENCES, STENOSIS, Doubt, beside, competence, withhold_doubtful
from inference.doubts import too_poor
from inference.image_quality import PictureQuality, picture_quality
from inference.localize import Localization
from inference.report import Finding
from training.phantom import StudyTruth, spoil

_ROOT = Path(__file__).resolve().parents[2]
FINE = PictureQuality(
    snr=60.0, ripple=0.01, sharp=2.1, haze=0.01, stripe=3.5, dash=0.0, fold=0.3, shift_down=0.001, shift_across=-0.001
)
LEVEL = AxialMeasures(FINE, 0.13, 100.0, {"left": 0.0, "right": 0.0}, 0.7, 0.5, 150.0)
COLUMN = ColumnMeasures(
    slip_mm={"L4-L5": -1.2, "L5-S1": 0.6},
    wedge={"L5-S1": 1.4, "L4-L5": 1.2, "L3-L4": 1.1},
    canal={"L5-S1": 900.0, "L4-L5": 950.0, "L3-L4": 1000.0},
    marrow={"L5-S1": 1.9, "L4-L5": 1.8, "L3-L4": 2.0},
    fat_mm={"L5-S1": 6.0, "L4-L5": 6.5, "L3-L4": 6.0},
    void_mm2={"L5-S1": 0.0, "L4-L5": 0.0},
    bend_deg=6.0,
    remnant="",
    picture=FINE,
)


def _finding(level: str, kind: str, side: str, **more: object) -> Finding:
    return Finding.model_validate(
        {"id": "F-001", "level": level, "kind": kind, "side": side, "severity": "severe", "basis": "x", **more}
    )


FINDINGS = (
    _finding("L4-L5", "herniation", "left", type="extrusion"),
    _finding("L4-L5", "recess_stenosis", "left"),
    _finding("L4-L5", "recess_stenosis", "right"),
    _finding("L5-S1", "canal_stenosis", "both"),
)


def _codes(doubts: object) -> set[str]:
    return {doubt.code for doubt in doubts}  # type: ignore[attr-defined]


def test_every_code_has_a_sentence_on_the_page_and_in_the_program() -> None:
    page = (_ROOT / "docs" / "withholding.md").read_text(encoding="utf-8")
    for code, sentence in SENTENCES.items():
        assert f"| `{code}` | {sentence} |" in page
        assert not forbidden(sentence)
    assert set(REASONS) <= set(SENTENCES)


@pytest.mark.parametrize("code", REASONS)
def test_every_reason_is_said_in_every_language(code: str) -> None:
    assert REASONS[code] in words().withheld.values()
    said = {reason_withheld(REASONS[code], language) for language in languages()}
    assert len(said) == len(languages())


def test_codes_that_the_gates_give_are_those_with_sentences() -> None:
    told = set()
    for name in ("axial_doubts", "column_doubts", "competence"):
        source = (_ROOT / "inference" / f"{name}.py").read_text(encoding="utf-8")
        told |= set(re.findall(r'Doubt\(\s*"([A-Z_]+)"', source)) | set(re.findall(r'return "([A-Z_]+)"', source))
    assert {"METAL", "SLIP"} <= told <= set(SENTENCES)


def test_a_doubt_takes_back_what_it_names_and_nothing_else() -> None:
    doubts = (
        Doubt("MIMIC_UNCERTAIN", "fluid", "L4-L5", "left", ("recess_stenosis",)),
        Doubt("SLIP", "slip", "L4-L5", None, ("herniation",), ("extrusion",)),
        Doubt("SCOLIOSIS", "bend"),
    )
    kept, withheld, notices = withhold_doubtful(FINDINGS, (), doubts)
    assert [(item.level, item.kind, item.side) for item in kept] == [
        ("L4-L5", "recess_stenosis", "right"),
        ("L5-S1", "canal_stenosis", "both"),
    ]
    assert [(item.kind, item.side, item.code) for item in withheld] == [
        ("herniation", None, "SLIP"),
        ("recess_stenosis", "left", "MIMIC_UNCERTAIN"),
    ]
    assert [notice.code for notice in notices] == ["MIMIC_UNCERTAIN", "SLIP", "SCOLIOSIS"]


def test_the_first_doubt_gives_the_code() -> None:
    doubts = (Doubt("METAL", "void", "L5-S1", None, ALL), Doubt("POSTOP", "void", "L5-S1", None, STENOSIS))
    _, withheld, _ = withhold_doubtful(FINDINGS, (), doubts)
    assert [(item.level, item.code) for item in withheld] == [("L5-S1", "METAL")]


def test_metal_reaches_the_neighbours() -> None:
    assert beside("L5-S1", 1) == ("L4-L5", "L5-S1")
    assert beside("L3-L4", 1) == ("L2-L3", "L3-L4", "L4-L5")


@pytest.mark.parametrize(
    ("change", "entropy", "code"),
    [
        ({}, 0.13, None),
        ({"snr": 12.0}, 0.13, "LOW_QUALITY"),
        ({"sharp": 1.5, "snr": 5000.0}, 0.13, "LOW_QUALITY"),
        ({"sharp": 1.5, "ripple": 0.05}, 0.35, "MOTION"),
        ({"sharp": 1.85}, 0.35, "MOTION"),
        ({"stripe": 40.0}, 0.13, "ARTEFACT"),
        ({"dash": 0.2}, 0.13, "ARTEFACT"),
        ({"shift_down": 0.02}, 0.13, "ARTEFACT"),
        ({"shift_across": -0.02}, 0.13, "ARTEFACT"),
        ({"fold": 0.9}, 0.13, None),
        ({"fold": 0.9}, 0.35, "ARTEFACT"),
        ({}, 0.35, "OOD"),
    ],
)
def test_the_picture_decides_the_code(change: dict[str, float], entropy: float, code: str | None) -> None:
    assert picture_code(replace(FINE, **change), entropy) == code


def test_fat_is_displaced_alike_at_every_level_of_a_series() -> None:
    other = replace(LEVEL, picture=replace(FINE, shift_across=0.017))
    (first, one), (second, two) = with_common_shift([("L4-L5", LEVEL), ("L5-S1", other)])
    assert (first, second) == ("L4-L5", "L5-S1")
    assert one.picture.shift_across == two.picture.shift_across == pytest.approx(0.008)
    assert with_common_shift([]) == []


def test_a_level_is_doubted_for_its_back_its_fluid_and_its_fat() -> None:
    assert level_doubts("L4-L5", LEVEL) == []
    assert _codes(level_doubts("L4-L5", replace(LEVEL, flavum_mm2=20.0))) == {"POSTOP"}
    (cyst,) = level_doubts("L4-L5", replace(LEVEL, fluid_mm2={"left": 40.0, "right": 0.0}))
    assert (cyst.code, cyst.side) == ("MIMIC_UNCERTAIN", "left")
    assert _codes(level_doubts("L4-L5", replace(LEVEL, free_share=2.0, sac_mm2=60.0))) == {"MIMIC_UNCERTAIN"}
    assert level_doubts("L4-L5", replace(LEVEL, free_share=2.0)) == [], "a wide sac in much fat is no stenosis"


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        ({}, set()),
        ({"slip_mm": {"L4-L5": -5.0}}, {"SLIP"}),
        ({"bend_deg": 24.0}, {"SCOLIOSIS"}),
        ({"wedge": {"L5-S1": 1.4, "L3-L4": 0.6, "L2-L3": 1.0}}, {"OUTSIDE_SCOPE_FINDING"}),
        ({"marrow": {"L5-S1": 1.9, "L4-L5": 1.1, "L3-L4": 2.0}}, {"OUTSIDE_SCOPE_FINDING"}),
        ({"canal": {"L5-S1": 900.0, "L4-L5": 400.0, "L3-L4": 1000.0}}, {"OUTSIDE_SCOPE_FINDING"}),
        ({"fat_mm": {"L5-S1": 6.0, "L4-L5": 2.0, "L3-L4": 6.0}}, {"OUTSIDE_SCOPE_FINDING"}),
        ({"fat_mm": {"L5-S1": 2.0, "L4-L5": 1.0, "L3-L4": 2.0}}, set()),
        ({"fat_mm": {"L5-S1": 2.0, "L4-L5": 6.0, "L3-L4": 6.0}}, set()),
        ({"void_mm2": {"L4-L5": 300.0}}, {"METAL", "POSTOP"}),
        ({"remnant": "the lowest disc is a remnant"}, {"LEVEL_AMBIGUOUS"}),
        ({"picture": replace(FINE, snr=5.0)}, {"LOW_QUALITY"}),
    ],
)
def test_the_column_decides_the_code(change: dict[str, object], codes: set[str]) -> None:
    assert _codes(doubts_of(replace(COLUMN, **change))) == codes


def test_measures_do_not_depend_on_brightness_or_fine_interpolation(small_study: tuple[Path, StudyTruth]) -> None:
    from pydicom import dcmread

    path = sorted((small_study[0] / "axial_t2").glob("*.dcm"))[2]
    picture = dcmread(path).pixel_array.astype(np.float32)
    base = picture_quality(picture, (0.71, 0.71))
    assert picture_quality(3.0 * picture, (0.71, 0.71)).snr == pytest.approx(base.snr, rel=1e-3)
    k = np.fft.fftshift(np.fft.fft2(picture))
    finer = np.abs(np.fft.ifft2(np.fft.ifftshift(np.pad(k, 112)))) * 4
    again = picture_quality(finer, (0.355, 0.355))
    assert again.snr == pytest.approx(base.snr, rel=0.1)
    assert again.sharp == pytest.approx(base.sharp, rel=0.05)


def test_strong_ghosts_withhold_the_axial_values_and_the_untouched_study_keeps_them(
    small_study: tuple[Path, StudyTruth], engine: Engine, tmp_path: Path
) -> None:
    untouched = analyze(read_study(small_study[0]), engine=engine).report
    # the discs of this person do lean from 11 degrees to one side to 12 to the other
    assert {item.code for item in (*untouched.warnings, *untouched.withheld)} & set(SENTENCES) <= {"SCOLIOSIS"}
    assert all(level.disc_ap_mm is not None for level in untouched.levels)
    shutil.copytree(small_study[0], tmp_path / "study")
    spoil.spoil_folder(tmp_path / "study" / "axial_t2", spoil.motion("strong"), np.random.default_rng(5))
    report = analyze(read_study(tmp_path / "study"), engine=engine).report
    assert "MOTION" in {item.code for item in report.withheld}
    assert not [f for f in report.findings if f.kind == "recess_stenosis" and f.level in ("L4-L5", "L5-S1")]


def test_a_study_too_noisy_for_its_column_to_be_found_is_of_low_quality(
    small_study: tuple[Path, StudyTruth], engine: Engine, tmp_path: Path
) -> None:
    shutil.copytree(small_study[0], tmp_path / "study")
    for role in ("sagittal_t1", "sagittal_t2", "axial_t2"):
        spoil.spoil_folder(tmp_path / "study" / role, spoil.noise(2.5), np.random.default_rng(5))
    report = analyze(read_study(tmp_path / "study"), engine=engine).report
    assert report.status == "abstained"
    assert {"NOT_LUMBAR", "LOW_QUALITY"} <= {item.code for item in report.warnings}
    assert {item.code for item in report.withheld} == {"LOW_QUALITY"}
    assert {item.level for item in report.withheld} >= {"L4-L5", "L5-S1"}


def test_sharp_pictures_without_a_column_are_not_called_poor(small_study: tuple[Path, StudyTruth]) -> None:
    (stack,) = read_study(small_study[0]).with_role("sagittal_t2")
    nothing = Localization((), np.zeros(stack.volume.grid.shape, dtype=np.uint8), "uncertain", (), False, 0.0, "")
    assert not too_poor(nothing, stack)


def test_what_takes_the_place_of_fat_behind_one_body_is_told() -> None:
    assert fat_to_neighbours({"L5-S1": 6.0, "L4-L5": 3.0, "L3-L4": 6.0, "L2-L3": 6.0}) == {
        "L4-L5": pytest.approx(0.5),
        "L3-L4": pytest.approx(6.0 / 4.5),
    }
    assert fat_to_neighbours({"L5-S1": 2.0, "L4-L5": 0.0, "L3-L4": 2.0}) == {}, "a canal without fat tells nothing"


def test_limits_of_two_planes_stand_in_the_file() -> None:
    assert competence().picture.least_snr_sagittal < competence().picture.least_snr_axial
