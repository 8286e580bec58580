"""Millimetres to severity at the cuts, everything read or withheld, and both opinions on a herniation shown."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from configs import grading
from inference.both_planes import with_sagittal
from inference.grade import (
    below_cut,
    canal_severity,
    cut_short,
    herniation_severity,
    read_levels,
    recess_severity,
)
from inference.report import Finding, Withheld
from inference.segment import AxialReading, class_names
from models import Card, InputSpec, NetworkSpec
from tests.inference.axial_scene import MARGIN, disc, painted_reading, stack

CARD = Card(
    name="axial",
    network=NetworkSpec(out_channels=8),
    input=InputSpec(spacing_mm=0.6),
    classes=class_names(),
    trained_on="painted",
    recipe="",
    command="",
)
SITES = {("herniation", None), ("recess_stenosis", "left"), ("recess_stenosis", "right"), ("canal_stenosis", None)}


def read(
    *readings: AxialReading, discs: list[Any] | None = None, axial_t2: bool = True
) -> tuple[list[Finding], list[Withheld]]:
    found, withheld = read_levels(discs or [item.disc for item in readings], readings, CARD, axial_t2=axial_t2)
    return list(found), list(withheld)


def site(item: Finding | Withheld) -> tuple[str, str | None]:
    return item.kind, item.side if item.kind == "recess_stenosis" else None


def at(level: str, **shape: float) -> AxialReading:
    named = disc(name=level, posterior_margin_lps=MARGIN)
    return painted_reading(stack(), named, **shape)


@pytest.mark.parametrize(
    ("depth", "severity"),
    [
        (0.0, "severe"),
        (2.0, "severe"),
        (2.01, "moderate"),
        (3.6, "moderate"),
        (3.61, "normal_mild"),
        (9.0, "normal_mild"),
    ],
)
def test_recess_bands_are_those_of_the_configuration(depth: float, severity: str) -> None:
    assert recess_severity(depth) == severity


@pytest.mark.parametrize(
    ("area", "severity"), [(74.9, "severe"), (75.0, "moderate"), (99.9, "moderate"), (100.0, "normal_mild")]
)
def test_canal_bands_are_those_of_the_configuration(area: float, severity: str) -> None:
    assert canal_severity(area) == severity


def test_herniation_is_graded_by_extent_and_by_a_sac_halved_against_its_neighbours() -> None:
    assert herniation_severity("protrusion", 3.0, 150.0, (150.0,)) == "normal_mild"
    assert herniation_severity("protrusion", 4.0, 150.0, (150.0,)) == "moderate"
    assert herniation_severity("extrusion", 7.0, 150.0, ()) == "severe"
    assert herniation_severity("protrusion", 3.0, 70.0, (150.0, 160.0)) == "severe"
    assert herniation_severity("bulge", 8.0, 70.0, (150.0,)) == "normal_mild"


def test_every_site_of_the_two_lowest_levels_is_read_or_withheld_and_never_both() -> None:
    for readings in ([], [at("L4-L5")], [at("L4-L5"), at("L5-S1")]):
        found, withheld = read(*readings, discs=[item.disc for item in readings])
        for level in ("L4-L5", "L5-S1"):
            sites = [site(item) for item in (*found, *withheld) if item.level == level]
            assert sorted(map(str, sites)) == sorted(map(str, SITES))


def test_without_axial_t2_recess_and_canal_are_withheld_as_series_missing() -> None:
    both = [disc(name=name, herniation_probability=0.2) for name in ("L4-L5", "L5-S1")]
    found, withheld = read(discs=both, axial_t2=False)
    assert {item.code for item in withheld} == {"NO_AXIAL_T2"}
    assert {item.reason for item in withheld} == {"series missing"}
    assert {item.kind for item in found} == {"herniation"}
    assert {item.basis for item in found} == {"real images"}


def test_disc_that_was_not_found_withholds_the_whole_level() -> None:
    _, withheld = read(at("L4-L5"))
    assert {site(item) for item in withheld if item.level == "L5-S1"} == SITES


def test_narrow_left_recess_is_flagged_on_the_left_alone() -> None:
    found, _ = read(at("L5-S1", depth_left=1.2, depth_right=7.0))
    recess = {item.side: item for item in found if item.kind == "recess_stenosis"}
    assert recess["left"].severity == "severe"
    assert recess["right"].severity == "normal_mild"
    assert recess["left"].flagged
    assert not recess["right"].flagged
    assert recess["left"].probability > 0.9 > 0.1 > recess["right"].probability


def test_recess_says_that_it_was_learned_from_simulated_images_only() -> None:
    found, _ = read(at("L5-S1"))
    assert {item.basis for item in found if item.kind == "recess_stenosis"} == {"simulated images only"}


@pytest.mark.parametrize(("depth", "borderline"), [(2.3, True), (3.3, True), (4.4, False), (1.2, False)])
def test_depth_near_a_cut_is_borderline(depth: float, borderline: bool) -> None:
    found, _ = read(at("L5-S1", depth_left=depth))
    value = next(item for item in found if item.side == "left").measurements[0]
    assert value.name == "recess_mm"
    assert value.borderline is borderline


def test_measurement_names_its_points_and_its_slice() -> None:
    reading = at("L4-L5", depth_left=3.0)
    found, _ = read(reading)
    uids = {item.instance.sop_instance_uid for item in reading.slices}
    for finding in found:
        for value in finding.measurements:
            if value.unit != "1":
                assert value.points_lps is not None
                assert value.source_instance in uids
                assert value.uncertainty > 0


def test_both_opinions_on_a_herniation_are_shown_with_their_span() -> None:
    doubted = replace(
        at("L5-S1", hernia_left=6.0),
        disc=disc(name="L5-S1", herniation_probability=0.08, usual_herniation_probability=0.1),
    )
    found, _ = read(doubted)
    herniation = next(item for item in found if item.kind == "herniation")
    values = {item.name: item.value for item in herniation.measurements}
    assert values["sagittal_probability"] == 0.08
    assert values["axial_probability"] > 0.9
    assert herniation.interval[0] <= herniation.probability <= herniation.interval[1] == values["axial_probability"]
    assert herniation.type == "protrusion"
    assert herniation.basis == "real and simulated images"


def test_herniation_on_the_left_is_reported_on_the_left_with_its_severity() -> None:
    found, _ = read(at("L4-L5", hernia_left=6.0))
    herniation = next(item for item in found if item.kind == "herniation")
    assert (herniation.side, herniation.type, herniation.severity) == ("left", "protrusion", "moderate")


def test_identifiers_are_unique_over_all_levels() -> None:
    found, _ = read(at("L3-L4"), at("L4-L5"), at("L5-S1"))
    assert len({item.id for item in found}) == len(found) == 12


def test_probability_falls_with_depth_and_is_a_half_at_the_cut() -> None:
    cut = grading().recess.moderate_at_or_below
    assert below_cut(cut, 0.8, cut) == pytest.approx(0.5)
    assert below_cut(1.0, 0.8, cut) > below_cut(3.0, 0.8, cut) > below_cut(6.0, 0.8, cut)


def test_a_sagittal_score_that_says_the_usual_changes_nothing_and_others_move_towards_what_they_say() -> None:
    for axial, usual in product((0.05, 0.5, 0.97), (0.1, 0.3)):
        assert with_sagittal(axial, usual, usual, 0.5) == pytest.approx(axial)
        assert with_sagittal(axial, 0.02, usual, 0.5) < axial < with_sagittal(axial, 0.8, usual, 0.5)
        assert with_sagittal(axial, 0.8, usual, 1.0) > with_sagittal(axial, 0.8, usual, 0.5)


def weak_sign(sagittal: float) -> AxialReading:
    """Faint material on the left of L5-S1, under a sagittal score where 0.1 is usual."""
    clear = at("L5-S1", hernia_left=3.0)
    dimmed = tuple(
        replace(
            item, probabilities=np.where(np.arange(8)[:, None, None] == 2, 0.6 * item.probabilities, item.probabilities)
        )
        for item in clear.slices
    )
    seen = disc(name="L5-S1", herniation_probability=sagittal, usual_herniation_probability=0.1)
    return replace(clear, slices=dimmed, disc=seen)


@pytest.mark.parametrize(("sagittal", "given"), [(0.005, False), (0.04, False), (0.09, True), (0.3, True)])
def test_axial_sign_is_withheld_where_the_sagittal_score_says_much_less_than_usual(
    sagittal: float, given: bool
) -> None:
    found, withheld = read(weak_sign(sagittal))
    assert ("herniation" in {item.kind for item in found}) is given
    codes = {item.code for item in withheld if item.kind == "herniation" and item.level == "L5-S1"}
    assert codes == (set() if given else {"PLANES_DISAGREE"})


def test_planes_that_disagree_clearly_withhold_the_herniation() -> None:
    nothing = at("L5-S1")
    certain = replace(nothing, disc=disc(name="L5-S1", herniation_probability=0.99, usual_herniation_probability=0.01))
    found, withheld = read(certain)
    assert "herniation" not in {item.kind for item in found}
    assert [(item.kind, item.code) for item in withheld if item.kind == "herniation" and item.level == "L5-S1"] == [
        ("herniation", "PLANES_DISAGREE")
    ]


def test_type_and_probability_of_a_herniation_never_contradict_each_other() -> None:
    told = set()
    for wide, sagittal in product((0.0, 1.0, 1.5, 2.0, 3.0, 5.0), (None, 0.005, 0.1, 0.5, 0.97)):
        seen = disc(name="L5-S1", herniation_probability=sagittal, usual_herniation_probability=0.1)
        found, _ = read(replace(at("L5-S1", hernia_left=wide), disc=seen))
        for item in found:
            if item.kind == "herniation" and item.level == "L5-S1" and item.type != "bulge":
                assert (item.type == "none") == (item.probability < 0.5), (wide, sagittal, item)
                told.add((item.type, any(value.unit == "mm" for value in item.measurements)))
    assert {("none", False), ("protrusion", True), ("protrusion", False)} <= told


def test_above_the_taught_levels_only_the_sac_is_read_on_axial_slices() -> None:
    found, withheld = read(at("L1-L2", depth_left=1.0, hernia_left=6.0))
    assert {item.kind for item in found} == {"canal_stenosis"}
    assert all(item.level != "L1-L2" for item in withheld)


def test_a_herniation_at_the_end_of_the_slices_has_a_side_and_no_millimetres_and_is_warned_of() -> None:
    whole = at("L5-S1", hernia_left=6.0)
    found, _ = read(whole)
    assert cut_short(found) == ()
    ended = replace(whole, slices=tuple(item for item in whole.slices if item.offset_mm >= -1.0))
    found, _ = read(ended)
    herniation = next(item for item in found if item.kind == "herniation")
    assert (herniation.side, herniation.type) == ("left", "protrusion")
    assert herniation.severity == "moderate"
    assert all(item.name != "ap_mm" for item in herniation.measurements)
    (warning,) = cut_short(found)
    assert warning.code == "HERNIATION_CUT"
    assert "L5-S1" in warning.text


def test_a_herniation_that_slices_place_on_both_sides_is_withheld() -> None:
    whole = at("L5-S1", hernia_left=6.0)
    mirrored = tuple(replace(item, probabilities=item.probabilities[:, :, ::-1]) for item in whole.slices)
    for slices, side in ((whole.slices, "left"), (mirrored, "right")):
        found, _ = read(replace(whole, slices=slices))
        assert next(item.side for item in found if item.kind == "herniation") == side
    found, withheld = read(replace(whole, slices=whole.slices[:2] + mirrored[2:]))
    assert all(item.kind != "herniation" for item in found)
    assert [item.code for item in withheld if (item.level, item.kind) == ("L5-S1", "herniation")] == ["MM_IMPLAUSIBLE"]
