"""Measures of one picture that tell how far it can be trusted: noise, sharpness, ghosts, stripes, dashes, folding, displaced fat.

Everything is counted against the picture's own brightest tissue, on pixels of about a millimetre, so that scanner, matrix and
interpolation matter little. Which value is too much: configs/competence.toml.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Picture = NDArray[np.float32]
PIXEL_MM = 1.0
"""Pictures are brought to this pixel (a coarser one stays): what scanners resolve; finer pixels are mostly interpolated."""
_BLOCK = 12
_BORDER = 6
_LAPLACIAN = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]]) / 6.0
"""Mask of Immerkaer 1996: blind to edges and slopes, unit variance for white noise."""
_MAD = 0.6745
_MIDDLE = (0.2, 0.8)
"""Part of the picture, from one end to the other, in which the spine lies."""
_SHOWN = 0.15
"""Both ends of a picture must show tissue over this share of their length, or nothing can go on there."""
_QUIET_PERCENTILE = 25.0
"""Of the blocks that show tissue, the quietest quarter tells noise and ghosts from texture and edges."""
_FAT, _WATER = 0.45, 0.05
"""Fat is at least so bright, what lies beside it at least so, in shares of the brightest tissue."""
_DARKER = 0.6
"""... and is at most so bright as the fat: a border of fat."""
_SIDE, _BETWEEN = 3, (3, 5)
"""Pixels of each side of a border, and of what lies between them, with one more where they meet: voids of 3 to 7 mm."""
_EVEN = 1.4, 1.6
"""How unlike the pixels of one side may be: brightest over darkest of the fat, brightest over mean of the water."""
_VOID, _OVERLAP = 0.5, 1.15
"""A void is at most so bright as the water beside it, an overlap at least so bright as the fat."""
_FEW_BORDERS = 100
"""Fewer borders than some of these tell little: they count as more, without a displacement."""


@dataclass(frozen=True)
class PictureQuality:
    """Measures of one picture.

    `snr`: brightest tissue over the noise of quiet tissue. `ripple`: what waves of 2.5 to 8 mm quiet tissue shows, in shares of the
    brightest tissue. `sharp`: how steep edges are, 2.8 for a step. `haze`: waves in what should be dark. `stripe`: how far one
    wave stands above its neighbours in k-space. `dash`: how far one row or column stands above those on both sides of it, in
    shares of the brightest tissue. `fold`: how alike both ends of the picture are (correlation). `shift_down`, `shift_across`: share
    of the borders of fat with a void or an overlap of 3 to 7 mm as fat leaves that is displaced down the rows or along the columns,
    less those of the other direction (below 0: displaced up, or towards the first column).
    """

    snr: float
    ripple: float
    sharp: float
    haze: float
    stripe: float
    dash: float
    fold: float
    shift_down: float
    shift_across: float


def picture_quality(picture: NDArray[np.number], spacing_mm: tuple[float, float]) -> PictureQuality:
    """Measures of a picture (R, C) with pixels of `spacing_mm` (row step, column step)."""
    fold = _fold(np.asarray(picture, dtype=np.float32))
    even, bright = resampled(np.asarray(picture, dtype=np.float32), spacing_mm)
    if bright <= 0:
        return PictureQuality(0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    even = even / np.float32(bright)
    inner = even[_BORDER:-_BORDER, _BORDER:-_BORDER]
    residual = ndimage.convolve(even, _LAPLACIAN, mode="nearest")[_BORDER:-_BORDER, _BORDER:-_BORDER]
    waves = ndimage.gaussian_filter(even, 0.9) - ndimage.gaussian_filter(even, 2.4)
    tissue = _blocks(inner).mean(axis=(-2, -1)) > 0.08
    noise = float(np.percentile(_spread(residual)[tissue], _QUIET_PERCENTILE)) if tissue.any() else 1.0
    ripple = _spread(waves[_BORDER:-_BORDER, _BORDER:-_BORDER])[tissue]
    return PictureQuality(
        snr=1.0 / max(noise, 1e-4),
        ripple=float(np.percentile(ripple, _QUIET_PERCENTILE)) if tissue.any() else 1.0,
        sharp=_sharp(even),
        haze=_haze(inner, residual, waves[_BORDER:-_BORDER, _BORDER:-_BORDER]),
        stripe=_stripe(even),
        dash=max(_dash(even), _dash(even.T)),
        fold=fold,
        shift_down=_shift_down(even),
        shift_across=_shift_down(even.T),
    )


def resampled(picture: Picture, spacing_mm: tuple[float, float]) -> tuple[Picture, float]:
    """The picture on pixels of PIXEL_MM (by cutting its k-space; a coarser axis stays), and its brightest tissue (99th percentile)."""
    rows, columns = (max(16, min(n, round(n * mm / PIXEL_MM))) for n, mm in zip(picture.shape, spacing_mm, strict=True))
    k = np.fft.fftshift(np.fft.fft2(picture))
    top, left = picture.shape[0] // 2 - rows // 2, picture.shape[1] // 2 - columns // 2
    part = np.fft.ifftshift(k[top : top + rows, left : left + columns])
    even = np.fft.ifft2(part).real * (rows * columns / picture.size)
    return even.astype(np.float32), float(np.percentile(picture, 99.0))


def _sharp(even: Picture) -> float:
    """How much steeper the strongest edges are seen at 0.7 mm than at 2 mm: 2.8 for a step, 1 for what is blurred far beyond 2 mm."""
    coarse = np.hypot(*np.gradient(ndimage.gaussian_filter(even, 2.0)))
    fine = ndimage.maximum_filter(np.hypot(*np.gradient(ndimage.gaussian_filter(even, 0.7))), size=5)
    coarse, fine = (part[_BORDER:-_BORDER, _BORDER:-_BORDER] for part in (coarse, fine))
    chosen = coarse >= np.percentile(coarse, 97.0)
    return float(np.median(fine[chosen] / np.maximum(coarse[chosen], 1e-6)))


def _haze(inner: NDArray[np.floating], residual: NDArray[np.floating], waves: NDArray[np.floating]) -> float:
    """Waves in what should be dark, in shares of the brightest tissue: ghosts fall there too. 0 where nothing is dark."""
    mean = _blocks(inner).mean(axis=(-2, -1))
    dark = mean < np.percentile(mean, 20)
    return float(np.percentile(_blocks(waves).std(axis=(-2, -1))[dark], 75)) if dark.any() else 0.0


def _blocks(picture: NDArray[np.floating]) -> NDArray[np.floating]:
    rows, columns = (n // _BLOCK for n in picture.shape)
    cut = picture[: rows * _BLOCK, : columns * _BLOCK]
    return cut.reshape(rows, _BLOCK, columns, _BLOCK).swapaxes(1, 2)


def _spread(picture: NDArray[np.floating]) -> NDArray[np.floating]:
    """Robust standard deviation of every block."""
    return np.asarray(np.median(np.abs(_blocks(picture)), axis=(-2, -1)) / _MAD)


def _stripe(even: Picture) -> float:
    """Greatest ratio of a sample of k-space to the mean of those around it, away from the middle and off the axes."""
    rows, columns = even.shape
    window = np.hanning(rows)[:, None] * np.hanning(columns)[None, :]
    k = np.fft.fftshift(np.abs(np.fft.fft2((even - even.mean()) * window)))
    down = np.abs(np.arange(rows) - rows // 2)[:, None]
    across = np.abs(np.arange(columns) - columns // 2)[None, :]
    radius = np.hypot(down / rows, across / columns)
    # the ring of 9 x 9 samples about 5 x 5: a wave leaks no farther than the window lets it
    around = (81 * ndimage.uniform_filter(k, 9) - 25 * ndimage.uniform_filter(k, 5)) / 56
    counted = (radius > 0.04) & (radius < 0.45) & (down > 0) & (across > 0)
    return float((k[counted] / np.maximum(around[counted], 1e-6)).max())


def _dash(even: Picture) -> float:
    """How far the brightest line through the middle part stands above the rows on both sides of it, in shares of the brightest tissue.

    Edges count nothing; towards the ends lie the borders of saturation bands and of corrected fields.
    """
    above = even[2:-2] - np.maximum(even[:-4], even[4:])
    edge = round(_MIDDLE[0] * len(above))
    return float(np.median(above[:, _BORDER:-_BORDER], axis=1)[edge:-edge].max())


def _fold(picture: Picture) -> float:
    """How alike the two ends of the picture are, where both show tissue (the better axis): folded tissue goes on at the other end."""
    return max(_fold_of_rows(picture), _fold_of_rows(picture.T))


def _fold_of_rows(picture: Picture) -> float:
    smooth = ndimage.gaussian_filter1d(picture, 1.0, axis=0, mode="wrap")
    smooth = ndimage.gaussian_filter1d(smooth, 1.5, axis=1)
    first, last = smooth[3], smooth[-4]
    level = float(np.percentile(picture, 99.0))
    shown = (first > 0.1 * level) & (last > 0.1 * level)
    if shown.mean() < _SHOWN:
        return 0.0
    fine = [end - ndimage.gaussian_filter1d(end, 10.0) for end in (first, last)]
    if min(float(end[shown].std()) for end in fine) <= 0:
        return 0.0
    return float(np.corrcoef(fine[0][shown], fine[1][shown])[0, 1])


def _shift_down(even: Picture) -> float:
    """Share of the borders of fat from row to row that show fat displaced down, less the share that show it displaced up.

    Displaced fat leaves a void where it was and lies over water where it comes to (Babcock 1985): seen down the rows, voids stand
    before fat and overlaps behind it. Cortex, fascia and vessels are dark on both sides of fat, or thinner.
    """
    lines = ndimage.gaussian_filter1d(even, 0.7, axis=1)
    return max((_shift_of_width(lines, width) for width in _BETWEEN), key=abs)


def _shift_of_width(lines: Picture, width: int) -> float:
    low, high, mean = (
        change(lines, _SIDE, axis=0)
        for change in (ndimage.minimum_filter1d, ndimage.maximum_filter1d, ndimage.uniform_filter1d)
    )
    lowest, highest = (change(lines, width, axis=0) for change in (ndimage.minimum_filter1d, ndimage.maximum_filter1d))
    step = (_SIDE + width) // 2 + 1
    first, between, last = slice(None, -2 * step), slice(step, -step), slice(2 * step, None)
    down, borders = 0, 0
    for fat, water, sign in ((last, first, 1), (first, last, -1)):
        border = (low[fat] > _FAT) & (high[fat] < _EVEN[0] * low[fat]) & (low[water] > _WATER)
        border &= (high[water] < _EVEN[1] * mean[water]) & (mean[water] < _DARKER * mean[fat])
        voids = border & (highest[between] < _VOID * low[water])
        overlaps = border & (lowest[between] > _OVERLAP * high[fat])
        down += sign * (int(voids.sum()) - int(overlaps.sum()))
        borders += int(border.sum())
    return down / (borders + _FEW_BORDERS)
