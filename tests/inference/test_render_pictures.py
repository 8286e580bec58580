"""Key pictures: sides by geometry however the slice was stored, millimetres at their place, slices that were measured on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_io.geometry import Grid, Volume
from inference.render.overlay import draw_picture, picture_png, view_of
from inference.render.pictures import KeyPicture, axial_pictures, disc_marks, sagittal_picture, slice_picture_affine
from inference.report import Finding
from tests.inference.sample_report import (
    axial_labels,
    axial_volume,
    findings,
    level_reads,
    sagittal_volume,
    sample_pictures,
)

_LEVEL = level_reads()[1]


def _axial(volume: Volume, labels: NDArray[np.uint8] | None = None) -> KeyPicture:
    return axial_pictures(volume, axial_labels(volume) if labels is None else labels, _LEVEL, findings())[0]


def _stored_otherwise(volume: Volume, how: str) -> Volume:
    """The same tissue with rows and columns stored in another way, the matrix telling so."""
    array, affine = volume.array, np.array(volume.grid.affine)
    if how == "columns run to the patient's right":
        affine[:3, 3] = volume.grid.to_lps(np.array([0.0, 0.0, array.shape[2] - 1.0]))
        affine[:3, 2] = -affine[:3, 2]
        array = array[:, :, ::-1]
    elif how == "rows run to the front":
        affine[:3, 3] = volume.grid.to_lps(np.array([0.0, array.shape[1] - 1.0, 0.0]))
        affine[:3, 1] = -affine[:3, 1]
        array = array[:, ::-1, :]
    elif how == "rows and columns exchanged":
        affine[:, [1, 2]] = affine[:, [2, 1]]
        array = array.transpose(0, 2, 1)
    return Volume(array, Grid(array.shape, affine), volume.instances, volume.series_instance_uid)


@pytest.mark.parametrize(
    "how", ["columns run to the patient's right", "rows run to the front", "rows and columns exchanged"]
)
def test_picture_is_the_same_however_the_slice_was_stored(how: str) -> None:
    usual = axial_volume()
    usual = replace(usual, array=usual.array * 0 + np.round(usual.array))
    one = draw_picture(_axial(usual))
    other = draw_picture(_axial(_stored_otherwise(usual, how)))
    difference = np.abs(np.asarray(one, dtype=float) - np.asarray(other, dtype=float))
    assert difference.mean() < 1.0


def test_patients_left_is_on_the_right_of_an_axial_picture() -> None:
    view = view_of(_axial(axial_volume()))
    left, right = view.to_pixels(np.array([20.0, 0.0, 0.0])), view.to_pixels(np.array([-20.0, 0.0, 0.0]))
    assert left[0] > right[0]
    assert (view.right_letter, view.left_letter) == ("L", "R")
    assert (view.top_letter, view.bottom_letter) == ("A", "P")


def test_head_is_up_and_front_is_left_in_a_sagittal_picture() -> None:
    volume, labels = sagittal_volume()
    view = view_of(sagittal_picture(volume, labels, level_reads()))
    assert (view.left_letter, view.right_letter) == ("A", "P")
    assert (view.top_letter, view.bottom_letter) == ("H", "F")
    assert view.to_pixels(np.array([0.0, 0.0, 30.0]))[1] < view.to_pixels(np.array([0.0, 0.0, -30.0]))[1]


def test_millimetres_keep_their_length_in_the_picture() -> None:
    view = view_of(_axial(axial_volume()))
    ends = view.to_pixels(np.array([[0.0, 0.0, 0.0], [10.0, 0.0, 0.0]]))
    assert np.linalg.norm(ends[1] - ends[0]) == pytest.approx(10 * view.pixels_per_mm)


def test_right_recess_is_coloured_on_the_left_half_of_the_picture() -> None:
    volume = axial_volume()
    labels = axial_labels(volume)
    only_right = np.where(labels == 5, labels, 0).astype(np.uint8)
    picture = replace(_axial(volume, only_right), measurements=(), focus_lps=(0.0, 0.0, 0.0))
    size = 400
    drawn = np.asarray(draw_picture(picture, size), dtype=int)[:, size:]
    blue = (drawn[..., 2] - drawn[..., 0]) > 60
    columns = np.nonzero(blue[40:-40].any(axis=0))[0]
    assert columns.size
    assert columns.max() < drawn.shape[1] / 2


def _canal_on_slice(index: int, severity: str) -> tuple[Finding, ...]:
    """The findings with the canal of L4-L5 measured on another slice."""
    volume = axial_volume()
    z = float(volume.grid.to_lps(np.array([float(index), 0.0, 0.0]))[2])
    place = {
        "source_instance": volume.instances[index].sop_instance_uid,
        "points_lps": ((0.0, 4.0, z), (0.0, 16.0, z)),
    }
    moved = []
    for finding in findings():
        if finding.id == "L4-L5.canal":
            measured = tuple(m.model_copy(update=place) for m in finding.measurements)
            finding = finding.model_copy(update={"measurements": measured, "severity": severity})
        moved.append(finding)
    return tuple(moved)


def test_slice_with_the_most_severe_value_is_shown_first() -> None:
    volume = axial_volume()
    shown = axial_pictures(volume, None, _LEVEL, _canal_on_slice(2, "moderate"))
    assert [picture.source_instance for picture in shown] == [volume.instances[i].sop_instance_uid for i in (4, 2)]


def test_second_slice_without_a_flag_is_not_shown() -> None:
    volume = axial_volume()
    (shown,) = axial_pictures(volume, None, _LEVEL, _canal_on_slice(2, "normal_mild"))
    assert shown.source_instance == volume.instances[4].sop_instance_uid


def test_level_that_is_not_always_read_is_shown_only_with_a_flag() -> None:
    volume = axial_volume()
    elsewhere = _LEVEL.model_copy(update={"name": "L3-L4"})
    moved = tuple(finding.model_copy(update={"level": "L3-L4"}) for finding in findings())
    assert len(axial_pictures(volume, None, elsewhere, moved)) == 1
    calm = tuple(finding.model_copy(update={"severity": "normal_mild"}) for finding in moved)
    assert axial_pictures(volume, None, elsewhere, calm) == ()


def test_value_measured_in_another_series_with_the_same_instance_uid_is_not_drawn() -> None:
    volume = axial_volume()
    affine = np.array(volume.grid.affine)
    affine[2, 3] += 200
    elsewhere = Volume(volume.array, Grid(volume.grid.shape, affine), volume.instances, "2.25.999")
    assert axial_pictures(elsewhere, None, _LEVEL, findings()) == ()


def test_mid_plane_mark_lies_in_the_plane_of_the_slice_and_of_the_disc() -> None:
    volume, _ = sagittal_volume()
    level = level_reads()[1]
    (mark,) = disc_marks([level], slice_picture_affine(volume, 3))
    assert mark.text == "L4-L5"
    for point in mark.points_lps:
        assert volume.grid.to_index(np.array(point))[0] == pytest.approx(3.0)
        assert (np.array(point) - np.array(level.disc_centre_lps)) @ np.array(level.mid_plane.normal) == pytest.approx(
            0.0, abs=1e-9
        )


def test_doubtful_disc_name_is_shown_with_its_alternative() -> None:
    volume, _ = sagittal_volume()
    doubtful = level_reads()[2].model_copy(update={"alternative_name": "L4-L5"})
    (mark,) = disc_marks([doubtful], slice_picture_affine(volume, 3))
    assert mark.text == "L5-S1 / L4-L5?"


def test_every_picture_says_in_words_what_it_shows() -> None:
    for picture in sample_pictures():
        assert len(picture.alt_text) > 40
        assert picture.title


def test_same_picture_gives_the_same_bytes() -> None:
    first, second = sample_pictures()[1], sample_pictures()[1]
    assert picture_png(first) == picture_png(second)


def test_slice_of_constant_value_is_drawn() -> None:
    picture = _axial(axial_volume())
    flat = replace(picture, image=np.zeros_like(picture.image), labels=None)
    assert draw_picture(flat, 100).size[0] > 200
