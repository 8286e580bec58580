"""Key pictures as PNG: the plain slice beside the same slice with outlines, side letters, levels and millimetres drawn in.

Always in the radiological convention by geometry: the patient's left on the right, the head or the front of the body up,
whatever way the rows and columns were stored. Colours: configs/anatomy.toml.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from configs import anatomy
from configs.clinical import words
from dicom_io.geometry import FloatArray
from inference.render.pictures import KeyPicture, spoken, value_text
from inference.report import Measurement

_PANEL_PX = 560
_GAP_PX = 10
_HEADER_PX = 34
_FOOTER_PX = 26
_FILL_OPACITY = 0.22
_WINDOW_PERCENTILES = (1.0, 99.5)
_INK = (236, 238, 240)
_QUIET = (150, 156, 163)
_GROUND = (14, 16, 18)
_CASING = (0, 0, 0)
_SCALE_BAR_MM = 20.0
_TEXT_PX = 17
_SMOOTHING_VOXELS = (
    0.6  # of outlines only: rounds the steps of the voxels without moving the edge by more than a part of one
)

# LPS unit vectors that point right and down in a picture in the radiological convention.
_RIGHT = {"axial": np.array([1.0, 0.0, 0.0]), "sagittal": np.array([0.0, 1.0, 0.0])}
_DOWN = {"axial": np.array([0.0, 1.0, 0.0]), "sagittal": np.array([0.0, 0.0, -1.0])}
_LETTERS = (("L", "R"), ("P", "A"), ("H", "F"))


@dataclass(frozen=True)
class View:
    """How a slice lies in its picture: the (2, 3) matrix and offset (2,) from LPS mm to (x, y) pixels, and pixels per mm."""

    matrix: FloatArray
    offset: FloatArray
    pixels_per_mm: float
    right_letter: str
    left_letter: str
    top_letter: str
    bottom_letter: str

    def to_pixels(self, lps: FloatArray) -> FloatArray:
        """(x, y) pixels (..., 2) of LPS mm points (..., 3)."""
        return np.asarray(lps, dtype=np.float64) @ self.matrix.T + self.offset


def view_of(picture: KeyPicture, size_px: int = _PANEL_PX) -> View:
    """The square view of a key picture, `size_px` pixels wide, turned by geometry and cut to its focus and extent."""
    rows, columns = picture.image.shape
    affine = np.asarray(picture.affine, dtype=np.float64)
    row_step, column_step = affine[:3, 1], affine[:3, 2]
    row_dir, column_dir = row_step / np.linalg.norm(row_step), column_step / np.linalg.norm(column_step)
    wanted_right, wanted_down = _RIGHT[picture.plane], _DOWN[picture.plane]
    if abs(column_dir @ wanted_right) + abs(row_dir @ wanted_down) >= abs(row_dir @ wanted_right) + abs(
        column_dir @ wanted_down
    ):
        right, down = column_dir, row_dir
    else:
        right, down = row_dir, column_dir
    right = right if float(right @ wanted_right) >= 0 else -right
    down = down if float(down @ wanted_down) >= 0 else -down
    centre_index = np.array([0.0, (rows - 1) / 2, (columns - 1) / 2])
    centre = affine[:3, :3] @ centre_index + affine[:3, 3]
    if picture.focus_lps is not None:
        centre = np.array(picture.focus_lps)
    whole = max(rows * float(np.linalg.norm(row_step)), columns * float(np.linalg.norm(column_step)))
    scale = size_px / min(picture.extent_mm or whole, whole)
    matrix = np.stack([right, down]) * scale
    offset = np.array([size_px / 2, size_px / 2]) - matrix @ centre
    return View(
        matrix,
        offset,
        scale,
        right_letter=_letter(right),
        left_letter=_letter(-right),
        top_letter=_letter(-down),
        bottom_letter=_letter(down),
    )


def _letter(direction: FloatArray) -> str:
    axis = int(np.argmax(np.abs(direction)))
    return _LETTERS[axis][0 if direction[axis] > 0 else 1]


def _sample(values: FloatArray, picture: KeyPicture, view: View, size_px: int, order: Literal[1, 3]) -> FloatArray:
    """Values (rows, columns) of the slice resampled to the square view (size_px, size_px); outside is 0."""
    affine = np.asarray(picture.affine, dtype=np.float64)
    # (row, column) -> picture pixels is affine in the plane; its inverse says which source pixel each picture pixel shows
    forward = view.matrix @ affine[:3, 1:3]
    origin = view.matrix @ affine[:3, 3] + view.offset
    inverse = np.linalg.inv(forward)
    y, x = np.mgrid[0:size_px, 0:size_px].astype(np.float64)
    place = np.tensordot(inverse, np.stack([x - origin[0], y - origin[1]]), axes=1)
    return np.asarray(ndimage.map_coordinates(values.astype(np.float32), place, order=order, mode="constant", cval=0.0))


def _greys(picture: KeyPicture, view: View, size_px: int) -> NDArray[np.uint8]:
    shown = _sample(picture.image, picture, view, size_px, order=3)
    inside = shown[np.isfinite(shown)]
    low, high = np.percentile(inside, _WINDOW_PERCENTILES) if inside.size else (0.0, 1.0)
    grey = np.clip((shown - low) / max(float(high - low), 1e-6), 0, 1) * 255
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def _outlined(picture: KeyPicture, view: View, base: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The slice with each structure lightly filled and outlined in its colour."""
    if picture.labels is None:
        return base
    canvas = base.astype(np.float32)
    for label in getattr(anatomy(), picture.label_set).label:
        region = picture.labels == label.value
        if not region.any():
            continue
        soft = ndimage.gaussian_filter(region.astype(np.float32), _SMOOTHING_VOXELS)
        mask = _sample(soft, picture, view, base.shape[0], order=1) > 0.5
        edge = mask & ~ndimage.binary_erosion(mask, iterations=2)
        colour = np.array(label.colour, dtype=np.float32)
        canvas[mask] = (1 - _FILL_OPACITY) * canvas[mask] + _FILL_OPACITY * colour
        canvas[edge] = 0.15 * canvas[edge] + 0.85 * colour
    return canvas.astype(np.uint8)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _write(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, anchor: str = "lt") -> None:
    draw.text(at, text, font=_font(size), fill=_INK, anchor=anchor, stroke_width=2, stroke_fill=_CASING)


def _draw_line(draw: ImageDraw.ImageDraw, ends: FloatArray, colour: tuple[int, int, int], width: int = 3) -> None:
    flat = [(float(x), float(y)) for x, y in ends]
    draw.line(flat, fill=_CASING, width=width + 3)
    draw.line(flat, fill=colour, width=width)


def _draw_measurements(
    draw: ImageDraw.ImageDraw, measurements: Sequence[Measurement], view: View, size_px: int
) -> None:
    """Lines with ticks between the two points of each length; every value stands beside its place, none over another."""
    taken: list[tuple[float, float, float, float]] = []
    for measurement in measurements:
        if measurement.points_lps is None:
            continue
        ends = view.to_pixels(np.array(measurement.points_lps))
        middle = ends.mean(axis=0)
        at, anchor = (float(middle[0]), float(ends[:, 1].max()) + 8), "mt"  # an area stands below its region
        if measurement.unit == "mm":
            _draw_caliper(draw, ends)
            on_right = bool(middle[0] >= size_px / 2)
            at, anchor = (at[0] + (16 if on_right else -16), float(middle[1])), "lm" if on_right else "rm"
        text = value_text(measurement).replace("²", "2")  # the embedded typeface has no superscripts
        while any(_overlap(draw.textbbox(at, text, font=_font(_TEXT_PX), anchor=anchor), box) for box in taken):
            at = (at[0], at[1] + _TEXT_PX / 2)
        taken.append(draw.textbbox(at, text, font=_font(_TEXT_PX), anchor=anchor))
        _write(draw, at, text, _TEXT_PX, anchor)


def _draw_caliper(draw: ImageDraw.ImageDraw, ends: FloatArray) -> None:
    along = ends[1] - ends[0]
    length = float(np.linalg.norm(along))
    across = np.array([-along[1], along[0]]) / length * 7 if length > 1 else np.array([7.0, 0.0])
    _draw_line(draw, ends, _INK)
    for end in ends:
        _draw_line(draw, np.stack([end - across, end + across]), _INK, width=2)


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _draw_marks(draw: ImageDraw.ImageDraw, picture: KeyPicture, view: View) -> None:
    """Mid-planes as thin lines, each name in front of its disc where it covers neither disc nor canal."""
    for mark in picture.marks:
        ends = view.to_pixels(np.array(mark.points_lps))
        if len(ends) == 2:
            _draw_line(draw, ends, _INK, width=2)
        front = ends[int(np.argmin(ends[:, 0]))]
        _write(draw, (float(front[0]) - 8, float(front[1])), mark.text, _TEXT_PX, "rm")


def _draw_frame(draw: ImageDraw.ImageDraw, view: View, size_px: int) -> None:
    """Side letters at the four edges and a scale bar."""
    half = size_px / 2
    _write(draw, (size_px - 10, half), view.right_letter, 22, "rm")
    _write(draw, (10, half), view.left_letter, 22, "lm")
    _write(draw, (half, 8), view.top_letter, 16, "mt")
    _write(draw, (half, size_px - 8), view.bottom_letter, 16, "mb")
    bar = _SCALE_BAR_MM * view.pixels_per_mm
    _draw_line(draw, np.array([[14.0, size_px - 16.0], [14.0 + bar, size_px - 16.0]]), _INK, width=2)
    _write(draw, (14.0, size_px - 22.0), f"{_SCALE_BAR_MM:.0f} mm", 13, "lb")


def _legend(draw: ImageDraw.ImageDraw, picture: KeyPicture, top: int, left: int, right: int) -> None:
    if picture.labels is None:
        return
    at = left
    for label in getattr(anatomy(), picture.label_set).label:
        if not (picture.labels == label.value).any():
            continue
        name = spoken(label.name, picture.language)
        width = int(draw.textlength(name, font=_font(13))) + 26
        if at + width > right:
            break
        draw.rectangle((at, top + 7, at + 11, top + 18), fill=label.colour)
        draw.text((at + 16, top + 13), name, font=_font(13), fill=_QUIET, anchor="lm")
        at += width


def draw_picture(picture: KeyPicture, size_px: int = _PANEL_PX) -> Image.Image:
    """The plain slice (left) beside the outlined one (right) under one title line, as an RGB image."""
    view = view_of(picture, size_px)
    plain = _greys(picture, view, size_px)
    panels = [Image.fromarray(plain), Image.fromarray(_outlined(picture, view, plain))]
    for panel, marked in zip(panels, (False, True), strict=True):
        draw = ImageDraw.Draw(panel)
        _draw_frame(draw, view, size_px)
        if marked:
            _draw_marks(draw, picture, view)
            _draw_measurements(draw, picture.measurements, view, size_px)
    sheet = Image.new("RGB", (2 * size_px + _GAP_PX, _HEADER_PX + size_px + _FOOTER_PX), _GROUND)
    sheet.paste(panels[0], (0, _HEADER_PX))
    sheet.paste(panels[1], (size_px + _GAP_PX, _HEADER_PX))
    draw = ImageDraw.Draw(sheet)
    draw.text((10, _HEADER_PX / 2), picture.title, font=_font(18), fill=_INK, anchor="lm")
    said = words(picture.language).page["picture_mark"]
    draw.text((sheet.width - 10, _HEADER_PX / 2), said, font=_font(13), fill=_QUIET, anchor="rm")
    _legend(draw, picture, _HEADER_PX + size_px, 10, sheet.width)
    return sheet


_DRAWN: WeakKeyDictionary[KeyPicture, bytes] = WeakKeyDictionary()
"""Pictures that were drawn, as long as they live: page, PDF and image files of one report show the same ones."""


def picture_png(picture: KeyPicture) -> bytes:
    """The key picture as PNG bytes; the same picture gives the same bytes."""
    if picture not in _DRAWN:
        buffer = io.BytesIO()
        draw_picture(picture).save(buffer, format="PNG")
        _DRAWN[picture] = buffer.getvalue()
    return _DRAWN[picture]
