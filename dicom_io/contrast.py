"""Tells T1, T2 and fat-suppressed T2 apart by the pixels alone, where a header gives no TE and TR.

Fat suppression: how dark the fat under the skin of the back is. Sagittal T1 or T2: brightness and ridge quantiles of the
spine region. Axial: how dark muscle is against fat. Numbers: configs/contrast.json, fitted by `python -m training.weighting`
on SPIDER and Sudirman pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import ndimage

from configs.loader import config_path
from dicom_io.geometry import FloatArray, Volume

_MM = 1.0  # features are taken on this grid, so that they mean the same on every matrix
_BACK_MM = 115  # how far in front of the skin of the back the sagittal region reaches
_SKIN_MM = 23  # its hindmost part: skin and the fat under it
_HALF_WIDTH_MM = 50  # axial region: either side of the image's middle
_MUSCLE_MM = 85  # axial region: in front of the skin of the back
_MIN_ROWS = 60  # a slice that shows less of the back than this is not judged
_MAX_LOGIT = 5.0  # no single slice outweighs the others by more


class LinearCut(BaseModel):
    """Logistic model: logit of T2 = (features - mean) / scale . weights + bias."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float


class ContrastModel(BaseModel):
    """Fitted numbers of this module and where they come from."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    source: str
    fat_dark_below: float
    grey_zone: float
    sagittal: LinearCut
    axial: LinearCut


@dataclass(frozen=True)
class Weighting:
    """One of t1, t2, t2_fs, unknown (nothing to judge by), the reason in words, and whether the pixels leave no doubt."""

    name: str
    reason: str
    certain: bool = True


@cache
def contrast_model() -> ContrastModel:
    """The shipped numbers."""
    return ContrastModel.model_validate_json(config_path("contrast.json").read_text(encoding="utf-8"))


def weighting_of(volumes: Sequence[Volume]) -> Weighting:
    """Weighting of one acquisition (all its stacks of one plane) by its pixels; doubtful in the grey zone."""
    model = contrast_model()
    sagittal = volumes[0].plane == "sagittal"
    pictures = [picture for volume in volumes for picture in _pictures(volume, middle=sagittal)]
    regions = [region for picture in pictures if (region := back_region(picture, sagittal)) is not None]
    if not regions:
        return Weighting("unknown", "the back is not visible enough to judge the weighting", certain=False)
    fat = float(np.median([fat_brightness(region) for region in regions])) if sagittal else 1.0
    if fat < model.fat_dark_below:
        return Weighting("t2_fs", f"fluid bright, fat under the skin dark ({fat:.2f} of the brightest spine tissue)")
    cut, features = (model.sagittal, sagittal_features) if sagittal else (model.axial, axial_features)
    logits = [np.clip(logit(cut, features(region)), -_MAX_LOGIT, _MAX_LOGIT) for region in regions]
    mean = float(np.mean(logits))
    told = f"fat bright, {'fluid bright' if mean > 0 else 'fluid dark'} by {len(logits)} slices (log odds of T2 {mean:+.1f})"
    return Weighting("t2" if mean > 0 else "t1", told, abs(mean) >= model.grey_zone)


def logit(cut: LinearCut, features: FloatArray) -> float:
    """Log odds of T2 for one slice."""
    return float((features - np.array(cut.mean)) / np.array(cut.scale) @ np.array(cut.weights)) + cut.bias


def _pictures(volume: Volume, *, middle: bool) -> list[FloatArray]:
    """Slices on 1 mm pixels with the patient's back at the bottom (axial) or at the right (sagittal, head up)."""
    count = volume.grid.shape[0]
    chosen = range(count // 4, count - count // 4) if middle else range(count)
    along_rows, along_columns = volume.grid.affine[:3, 1], volume.grid.affine[:3, 2]
    spacing = volume.grid.spacing
    pictures: list[FloatArray] = []
    for number in chosen:
        picture = np.asarray(volume.array[number], dtype=np.float64)
        head_or_back = 2 if middle else 1
        if abs(along_rows[head_or_back]) >= abs(along_columns[head_or_back]):
            down, right, steps = along_rows, along_columns, (spacing[1], spacing[2])
        else:
            picture, down, right, steps = picture.T, along_columns, along_rows, (spacing[2], spacing[1])
        if (down[2] > 0) if middle else (down[1] < 0):
            picture = picture[::-1]
        if (right[1] < 0) if middle else (right[0] < 0):
            picture = picture[:, ::-1]
        pictures.append(ndimage.zoom(picture, (steps[0] / _MM, steps[1] / _MM), order=1))
    return pictures


def back_region(picture: FloatArray, sagittal: bool) -> FloatArray | None:
    """The part of a picture (1 mm pixels) in front of the skin of the back, or None where too little of it shows.

    Sagittal: one row a millimetre of height, 115 columns that end at the skin. Axial: 85 rows that end at the skin.
    """
    return _sagittal_region(picture) if sagittal else _axial_region(picture)


def _sagittal_region(picture: FloatArray) -> FloatArray | None:
    margin = picture.shape[0] // 6
    picture = picture[margin : picture.shape[0] - margin]
    smooth = ndimage.gaussian_filter(picture, 1.5)
    body = smooth > 0.12 * np.percentile(smooth, 99)
    back = picture.shape[1] - 1 - np.argmax(body[:, ::-1], axis=1)
    usable = (body.sum(axis=1) >= _MIN_ROWS) & (back >= _BACK_MM)
    if usable.sum() < _MIN_ROWS:
        return None
    edge = ndimage.median_filter(back[usable], 31)
    rows = np.flatnonzero(usable)
    begin = np.clip(edge - _BACK_MM, 0, picture.shape[1] - _BACK_MM)
    return np.stack([picture[row, at : at + _BACK_MM] for row, at in zip(rows, begin, strict=True)])


def _axial_region(picture: FloatArray) -> FloatArray | None:
    middle = picture.shape[1] // 2
    strip = picture[:, max(0, middle - _HALF_WIDTH_MM) : middle + _HALF_WIDTH_MM]
    smooth = ndimage.gaussian_filter(strip, 2)
    rows = np.flatnonzero((smooth > 0.15 * np.percentile(smooth, 97)).mean(axis=1) > 0.3)
    if rows.size == 0 or rows[-1] < _MUSCLE_MM // 2:
        return None
    return strip[max(0, int(rows[-1]) - _MUSCLE_MM) : int(rows[-1])]


def fat_brightness(region: FloatArray) -> float:
    """Brightness of the layer under the skin against the brightest tissue of the spine (sagittal region)."""
    skin = np.percentile(region[:, -18:-1], 85, axis=1)
    return float(np.median(skin) / max(float(np.percentile(region[:, :-_SKIN_MM], 98.5)), 1e-9))


def sagittal_features(region: FloatArray) -> FloatArray:
    """Quantiles of ridges along and across the spine, of brightness, and of fine detail, shading removed."""
    inner = np.maximum(region[:, :-_SKIN_MM], 0)
    inner = np.minimum(inner / np.maximum(ndimage.gaussian_filter(inner, 20), 1e-9), 3)
    features: list[float] = []
    for width in (3.0, 5.0):
        ridges = ndimage.gaussian_filter(inner, (12, width)) - ndimage.gaussian_filter(inner, (12, 2 * width))
        features += list(np.percentile(ridges / inner.std(), [99, 1]))
    for height in (2.0, 4.0):
        bars = ndimage.gaussian_filter(inner, (height, 6)) - ndimage.gaussian_filter(inner, (2 * height, 12))
        features += list(np.percentile(bars / inner.std(), [98, 2]))
    features += list(np.percentile(ndimage.gaussian_filter(inner, 1), [2, 10, 30, 50, 70, 90, 98]))
    for size in (1.5, 3.0):
        detail = ndimage.gaussian_filter(inner, size) - ndimage.gaussian_filter(inner, 1.6 * size)
        detail = detail / max(float(detail.std()), 1e-9)
        features += [*np.percentile(detail, [2, 98]), float(((detail - detail.mean()) ** 3).mean())]
    return np.array(features)


def axial_features(region: FloatArray) -> FloatArray:
    """Logarithms of brightness quantiles against fat: muscle is the low end, and far darker on T2 than on T1."""
    smooth = ndimage.gaussian_filter(region, 0.8)
    levels = np.percentile(smooth, [15, 25, 35, 45, 55, 65, 75, 85]) / max(float(np.percentile(smooth, 97)), 1e-9)
    return np.asarray(np.log(np.clip(levels, 0.01, 1.0)))
