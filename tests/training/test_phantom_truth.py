"""The simulated spine's millimetres: they follow from the shapes, know left from right, and agree with the label maps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from configs.loader import anatomy as label_settings
from training.phantom import draw_anatomy, level_truth
from training.phantom.anatomy import Anatomy, DiscDraw, FacetDraw, HerniationDraw
from training.phantom.curve import SpineCurve
from training.phantom.render import Plane, paint_plane, render_axial
from training.phantom.scanner import draw_scanner
from training.phantom.scene import solve_scene
from training.phantom.settings import phantom_settings
from training.phantom.tissues import solids
from training.phantom.truth import recess_window

PIXEL_MM = 0.4


def with_disc(person: Anatomy, name: str, **changes: object) -> Anatomy:
    index = person.disc_index(name)
    discs = list(person.discs)
    discs[index] = replace(discs[index], **changes)
    return replace(person, discs=tuple(discs))


def without_herniations(person: Anatomy) -> Anatomy:
    return replace(person, discs=tuple(replace(disc, herniation=None) for disc in person.discs))


def moved_back(facet: FacetDraw, distance: float) -> FacetDraw:
    return replace(facet, joint_v=facet.joint_v + distance)


def mirrored(person: Anatomy) -> Anatomy:
    def disc(d: DiscDraw) -> DiscDraw:
        h = d.herniation
        flipped = None if h is None else replace(h, u=-h.u, side=-h.side, tilt=-h.tilt)
        return replace(d, left=d.right, right=d.left, arch_u=-d.arch_u, bulge_tilt=-d.bulge_tilt, herniation=flipped)

    table = person.curve.table.copy()
    table[:, [0, 4, 5, 6, 9, 12]] *= -1  # points, and the frames with their lateral axis turned round
    return replace(
        person,
        curve=SpineCurve(person.curve.start, table),
        discs=tuple(disc(d) for d in person.discs),
        vertebrae=tuple(replace(v, arch_u=-v.arch_u, spinous_tilt=-v.spinous_tilt) for v in person.vertebrae),
        roots=tuple(replace(root, side=-root.side) for root in person.roots),
    )


def test_posterior_elements_set_back_by_two_millimetres_deepen_the_recess_by_two() -> None:
    person = without_herniations(draw_anatomy(3))
    disc = person.discs[person.disc_index("L4-L5")]
    further = with_disc(
        person, "L4-L5", left=moved_back(disc.left, 2.0), right=moved_back(disc.right, 2.0), apex=disc.apex + 2.0
    )
    before, after = level_truth(person, "L4-L5"), level_truth(further, "L4-L5")
    for side in ("left", "right"):
        gained = after.side(side).recess_depth_soft_mm - before.side(side).recess_depth_soft_mm
        assert gained == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("seed", [2, 6, 11])
def test_recess_depth_is_the_length_of_its_own_line_from_disc_to_facet_or_flavum(seed: int) -> None:
    person = draw_anatomy(seed)
    for level in ("L4-L5", "L5-S1"):
        truth = level_truth(person, level)
        for side in (truth.left, truth.right):
            if side.recess_depth_soft_mm < 0.5:
                continue  # the surfaces touch: there is no line
            front, back = (np.array(point) for point in side.points_lps)
            assert np.linalg.norm(back - front) == pytest.approx(side.recess_depth_soft_mm, abs=0.02)
            u, v, t = person.curve.to_uvt(np.stack([front, back])).T
            fields = solids(person, u, v, t)
            ahead = np.minimum(fields["disc"], np.minimum(fields["hernia"], fields["body"]))[0]
            behind = np.minimum(fields["bone"], fields["flavum"])[1]
            assert abs(ahead) < 0.1
            assert abs(behind) < 0.1
            assert (u[0] > 0) == (side.side == "left")


def test_mirrored_person_has_mirrored_truth() -> None:
    for seed in (1, 5, 7):
        person = draw_anatomy(seed)
        other = mirrored(person)
        for level in ("L4-L5", "L5-S1"):
            a, b = level_truth(person, level), level_truth(other, level)
            assert b.left.recess_depth_soft_mm == pytest.approx(a.right.recess_depth_soft_mm, abs=0.05)
            assert b.right.recess_depth_soft_mm == pytest.approx(a.left.recess_depth_soft_mm, abs=0.05)
            assert b.sac_area_mm2 == pytest.approx(a.sac_area_mm2, rel=0.01)
            if a.herniation is not None:
                assert b.herniation is not None
                assert b.herniation.side == {"left": "right", "right": "left", "midline": "midline"}[a.herniation.side]
                assert b.herniation.extent_mm == pytest.approx(a.herniation.extent_mm, abs=0.3)


@pytest.mark.parametrize("seed", [201, 204, 209])
def test_label_columns_of_the_recess_are_as_long_as_the_true_depth(seed: int) -> None:
    person = draw_anatomy(seed)
    scene = solve_scene(person)
    scanner = draw_scanner(np.random.default_rng(0), person.settings.scanner)
    value = label_settings().axial.value
    for level in ("L4-L5", "L5-S1"):
        truth = level_truth(person, level)
        shortest = {"left": np.inf, "right": np.inf}
        _, _, top, bottom = recess_window(scene, person.disc_index(level), 1)
        for t in np.append(np.arange(top, bottom, -1.0), bottom):
            point, axes = person.curve.frame(float(t))
            corner = point + axes[1] * 8 - 99.5 * PIXEL_MM * (axes[0] + axes[1])
            plane = Plane(corner, axes[0], axes[1], PIXEL_MM, (200, 200), 0.5)
            labels = paint_plane(scene, plane, scanner, ("t2",), "axial").labels
            for side in shortest:
                recess = labels == value(f"recess_{side}")
                columns = recess.any(axis=0)
                # where the sac reaches into the window its pixels belong to the free column
                free = (recess | (labels == value("thecal_sac")))[:, columns].sum(axis=0)
                shortest[side] = min(shortest[side], float(free.min()) * PIXEL_MM if columns.any() else 0.0)
        for side, length in shortest.items():
            assert length == pytest.approx(truth.side(side).recess_depth_soft_mm, abs=1.5 * PIXEL_MM)


def test_a_point_is_the_same_tissue_in_axial_and_sagittal_pictures() -> None:
    person = draw_anatomy(4)
    scene = solve_scene(person)
    scanner = draw_scanner(np.random.default_rng(0), person.settings.scanner)
    centre = np.array(level_truth(person, "L4-L5").posterior_margin_lps)
    x, y, z = np.eye(3)
    n = 121
    lateral = Plane(centre - 36 * (x + y), x, y, 0.6, (n, n), 3.0)
    upright = Plane(centre - 36 * y + 36 * z, y, -z, 0.6, (n, n), 3.0)
    axial = paint_plane(scene, lateral, scanner, ("t2",), "axial").labels[:, 60]
    sagittal = paint_plane(scene, upright, scanner, ("t2",), "sagittal").labels[60, :]
    names = label_settings()
    disc = np.isin(axial, [names.axial.value("disc"), names.axial.value("herniated_material")])
    canal = axial == names.axial.value("thecal_sac")
    assert disc.sum() > 30
    assert canal.sum() > 8
    assert np.mean(disc == (sagittal == names.sagittal.value("disc"))) > 0.97
    assert np.mean(canal == (sagittal == names.sagittal.value("canal"))) > 0.97


def test_disease_has_no_favourite_side_and_no_tie_to_scanner_or_vessels() -> None:
    people = [draw_anatomy(seed) for seed in range(5000, 5900)]
    lesions = [(d.herniation, p) for p in people for d in p.discs if d.herniation is not None]
    left = np.array([h.u > 0 for h, _ in lesions])
    assert binomtest(int(left.sum()), len(left)).pvalue > 0.001
    for sign in (
        [p.vessel_shift[0] > 0 for _, p in lesions],
        [p.discs[7].arch_u > 0 for _, p in lesions],
        [float(p.curve.table[:, 4].mean()) > 0 for _, p in lesions],
    ):
        agree = int((np.array(sign) == left).sum())
        assert binomtest(agree, len(left)).pvalue > 0.001


def test_recess_depths_spread_over_the_grades_and_the_two_sides_differ() -> None:
    depths = []
    for seed in range(300, 330):
        person = draw_anatomy(seed)
        for level in ("L4-L5", "L5-S1"):
            truth = level_truth(person, level)
            depths.append((truth.left.recess_depth_soft_mm, truth.right.recess_depth_soft_mm))
    both = np.array(depths)
    assert np.all(both >= 0)
    assert np.mean(both > 3.6) > 0.4
    assert np.mean(both < 2.0) > 0.1
    assert np.mean((both > 1.5) & (both < 4.6)) > 0.15
    assert np.abs(both[:, 0] - both[:, 1]).std() > 0.6


def test_same_seed_same_person_and_neighbouring_seeds_differ() -> None:
    assert draw_anatomy(8).discs == draw_anatomy(8).discs
    assert draw_anatomy(8).discs != draw_anatomy(9).discs


def test_a_level_crowded_by_fat_differs_in_the_size_of_its_sac_alone() -> None:
    shipped = phantom_settings()

    def person(share: float) -> Anatomy:
        canal = shipped.canal.model_copy(update={"crowded_probability": share})
        # a herniation's place is drawn within the sac's width
        return without_herniations(draw_anatomy(31, settings=shipped.model_copy(update={"canal": canal})))

    plain, crowded = person(0.0), person(1.0)
    for before, after in zip(plain.discs[4:9], crowded.discs[4:9], strict=True):
        assert after.sac_area <= min(before.sac_area, shipped.canal.crowded_area[1])
        assert after == replace(before, sac_area=after.sac_area, sac_width=after.sac_width, sac_ap=after.sac_ap)
    narrower, before = level_truth(crowded, "L4-L5"), level_truth(plain, "L4-L5")
    assert narrower.sac_area_mm2 < 0.8 * before.sac_area_mm2
    assert narrower.left.recess_depth_bony_mm == pytest.approx(before.left.recess_depth_bony_mm, abs=0.05)


def test_a_herniation_that_hardly_leaves_the_disc_leaves_no_trace_in_its_picture() -> None:
    person = without_herniations(draw_anatomy(6))
    drawn = HerniationDraw("protrusion", "central", 1, 3.0, 0.02, 7.0, 6.0, 0.0, 0.0, 0.0, t2_mix=1.0)

    def changed(extent: float) -> float:
        herniated = with_disc(person, "L4-L5", herniation=replace(drawn, extent=extent))
        images = [
            render_axial(who, "L4-L5", size=96, tilt="disc", randomise=False).image for who in (person, herniated)
        ]
        return float(np.abs(images[0] - images[1]).max() / np.percentile(images[0], 99))

    assert changed(0.02) < 0.1
    assert changed(5.0) > 0.3
