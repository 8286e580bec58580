"""Whether simulated pictures can be told from real ones: classifiers on 64 mm crops of the canal, five folds by person.

Real: outlined axial T1 slices (Sudirman et al., CC BY 4.0) and mid-sagittal T2 slices (SPIDER, van der Graaf 2024, CC BY 4.0). An area
under the curve of 0.5 would mean that they cannot be told apart. What makes the area fall says what gives the simulation away: a match
of the noise, of the histogram, or 1 mm pixels (texture and edges).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import ks_2samp
from torch import nn

from training.intervals import bootstrap_interval, roc_auc
from training.notes_linear import logistic_weights

FloatStack = NDArray[np.float32]
SIZE_MM, AXIAL_PIXEL_MM, SAGITTAL_PIXEL_MM = 64.0, 0.6875, 0.7
FIRST_SEED = 8_000_000
"""Persons drawn for this comparison alone."""
_BEHIND_MARGIN_MM = 6.0
"""The middle of an axial crop lies this far behind the disc's posterior margin; of a sagittal one, behind the disc's middle:"""
_BEHIND_DISC_MM = 18.0
_LEVELS = {"D3": "L3-L4", "D4": "L4-L5", "D5": "L5-S1"}
_FOLDS, _COMPONENTS, _PENALTY = 5, 40, 0.03
_PLACES, _PLACE_COMPONENTS = 4, 12
_BANDS = 16
_QUANTILES = np.linspace(0.05, 0.95, 9)
_CNN_STEPS, _CNN_BATCH = 200, 32
_SEED = 3
_SHEET_TILES, _SHEET_COLUMNS = 48, 12


@dataclass(frozen=True)
class Crops:
    """Canal crops (N, H, W), grey values scaled by their own percentiles; real (N,); whose they are (N,); edge of a pixel."""

    images: FloatStack
    real: NDArray[np.bool_]
    people: NDArray[np.str_]
    pixel_mm: float


def evaluate_realism(
    data: Path,
    *,
    count: int = 200,
    device: str = "auto",
    sheet: Path | None = None,
) -> str:
    """Lines of text: areas under the curve by plane and match; real and simulated crops in alternate rows in PNGs beside `sheet`."""
    axial, levels = axial_crops(data, count)
    sagittal, others = sagittal_crops(data, count // 2, device)
    lines = []
    for name, real, simulated, pixel in (
        ("axial T1", axial, simulated_axial(levels), AXIAL_PIXEL_MM),
        ("sagittal T2", sagittal, simulated_sagittal(others), SAGITTAL_PIXEL_MM),
    ):
        crops = together(real, simulated, pixel)
        lines.append(f"{name}: {len(real)} real and {len(simulated)} simulated crops")
        lines += [f"  {line}" for line in (*auc_lines(crops), *place_lines(crops), *statistic_lines(crops))]
        if sheet is not None:
            draw_sheet(crops, sheet.with_name(f"{sheet.stem}-{name.partition(' ')[0]}.png"))
    return "\n".join(lines)


def together(
    real: Sequence[tuple[str, NDArray[np.float32]]],
    simulated: Sequence[tuple[str, NDArray[np.float32]]],
    pixel_mm: float,
) -> Crops:
    """Both kinds of crops (person, picture) in one piece, each scaled to its own percentiles."""
    images = [scaled(picture) for _, picture in (*real, *simulated)]
    people = [name for name, _ in (*real, *simulated)]
    return Crops(np.stack(images), np.arange(len(images)) < len(real), np.array(people), pixel_mm)


def scaled(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """A crop with its 1st and 99th percentile at 0 and 1, clipped a little beyond."""
    low, high = np.percentile(picture, (1, 99))
    return np.clip((picture - low) / max(float(high - low), 1e-6), -0.1, 1.3).astype(np.float32)


def axial_crops(data: Path, count: int) -> tuple[list[tuple[str, FloatStack]], list[str]]:
    """Real crops (person, picture) around the canal on the publisher's own pixels, and the level of each."""
    from training.datasets.axial import Settings, load_outlines

    items = [item for item in load_outlines(data, Settings()) if item.weighting == "t1" and not item.body_level]
    found, levels = [], []
    for item in items[:count]:
        column, row = item.anchor
        crop = _cut(item.pixels, row + _BEHIND_MARGIN_MM / item.pixel_mm, column, item.pixel_mm)
        if crop is not None:
            found.append((item.patient, crop))
            levels.append(_LEVELS[item.name.rpartition("_")[2]])
    return found, levels


def sagittal_crops(data: Path, count: int, device: str) -> tuple[list[tuple[str, FloatStack]], list[str]]:
    """Real crops around the canal at L4-L5, where the network found it on mid-sagittal T2 slices."""
    from models.runtime import Segmenter
    from training.datasets.spider import resample, whole_slices
    from training.evaluate_discs import find_discs

    segmenter = Segmenter.load("sagittal", device)
    found: list[tuple[str, FloatStack]] = []
    for whole in whole_slices(data):
        if whole.sequence != "t2" or len(found) >= count:
            continue
        column = find_discs(segmenter, whole.image, whole.spacing)
        if column is None or len(column.discs) < 2:
            continue
        picture = resample(whole.image, (whole.spacing, whole.spacing), SAGITTAL_PIXEL_MM)
        row, middle = np.asarray(column.discs[1].centre) * column.spacing_mm / SAGITTAL_PIXEL_MM
        crop = _cut(picture, row, middle + _BEHIND_DISC_MM / SAGITTAL_PIXEL_MM, SAGITTAL_PIXEL_MM)
        if crop is not None:
            found.append((str(whole.patient), crop))
    return found, ["L4-L5"] * len(found)


def simulated_axial(levels: Sequence[str]) -> list[tuple[str, FloatStack]]:
    """One crop of a new person for every level asked for: slices along the disc, within a millimetre or two of its middle."""
    from training.phantom import draw_anatomy, render_axial

    found = []
    for number, level in enumerate(levels):
        seed = FIRST_SEED + number
        rng = np.random.default_rng([seed, 9])
        size = round(SIZE_MM / AXIAL_PIXEL_MM) + 30
        sample = render_axial(
            draw_anatomy(seed),
            level,
            weighting="t1",
            pixel_mm=AXIAL_PIXEL_MM,
            size=size,
            seed=seed,
            offset_mm=float(rng.normal(0, 1.0)),
            centre_jitter_mm=3.0,
        )
        margin = np.linalg.inv(sample.affine) @ np.append(sample.truth.posterior_margin_lps, 1.0)
        crop = _cut(sample.image, margin[1] + _BEHIND_MARGIN_MM / AXIAL_PIXEL_MM, margin[2], AXIAL_PIXEL_MM)
        if crop is not None:
            found.append((f"simulated {seed}", crop))
    return found


def simulated_sagittal(levels: Sequence[str]) -> list[tuple[str, FloatStack]]:
    """One mid-sagittal T2 crop of a new person for every level asked for."""
    from training.datasets.spider import resample
    from training.phantom.anatomy import draw_anatomy
    from training.phantom.render import Plane, expose, paint_plane
    from training.phantom.scanner import draw_acquisition, draw_scanner
    from training.phantom.scene import solve_scene

    found = []
    for number, level in enumerate(levels):
        seed = FIRST_SEED + 500_000 + number
        rng = np.random.default_rng([seed, 9])
        anatomy = draw_anatomy(seed)
        disc = anatomy.discs[anatomy.disc_index(level)]
        point, axes = anatomy.curve.frame(disc.t)
        pixel, size = float(rng.uniform(0.58, 0.63)), 160
        column, row = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, -1.0])
        middle = point - axes[1] * disc.depth / 2 + np.array([rng.normal(0, 1.5), _BEHIND_DISC_MM, 0.0])
        plane = Plane(middle - (size - 1) / 2 * pixel * (column + row), column, row, pixel, (size, size), 4.0)
        scanner = draw_scanner(rng, anatomy.settings.scanner)
        painted = paint_plane(solve_scene(anatomy), plane, scanner, ("t2",), "sagittal")
        exposed = expose(painted, "t2", draw_acquisition(rng, scanner, pixel), rng)
        picture = resample(exposed, (pixel, pixel), SAGITTAL_PIXEL_MM)
        half = (picture.shape[0] - 1) / 2
        crop = _cut(picture, half, half, SAGITTAL_PIXEL_MM)
        if crop is not None:
            found.append((f"simulated {seed}", crop))
    return found


def _cut(picture: NDArray[np.floating], row: float, column: float, pixel_mm: float) -> FloatStack | None:
    """SIZE_MM around a place on the picture's own pixels; None where the picture ends inside."""
    size = round(SIZE_MM / pixel_mm)
    top, left = round(row - (size - 1) / 2), round(column - (size - 1) / 2)
    if min(top, left) < 0 or top + size > picture.shape[0] or left + size > picture.shape[1]:
        return None
    return picture[top : top + size, left : left + size].astype(np.float32)


def coarser(crops: Crops) -> Crops:
    """The crops on 1 mm pixels."""
    factor = crops.pixel_mm
    smooth = ndimage.gaussian_filter(crops.images, (0, 0.42 / factor, 0.42 / factor))
    return Crops(ndimage.zoom(smooth, (1, factor, factor), order=1).astype(np.float32), crops.real, crops.people, 1.0)


def same_histogram(crops: Crops) -> Crops:
    """Every crop, real or not, with the mean histogram of the real ones: order of the grey values alone is left."""
    flat = crops.images.reshape(len(crops.images), -1)
    target = np.sort(flat[crops.real], axis=1).mean(axis=0)
    matched = np.empty_like(flat)
    for row, order in zip(matched, np.argsort(flat, axis=1, kind="stable"), strict=True):
        row[order] = target
    return Crops(matched.reshape(crops.images.shape), crops.real, crops.people, crops.pixel_mm)


def same_noise(crops: Crops) -> Crops:
    """Every crop with white noise added up to the level that nine in ten stay below."""
    level = noise_of(crops.images)
    goal = float(np.quantile(level, 0.9))
    rng = np.random.default_rng(_SEED)
    added = np.sqrt(np.maximum(goal**2 - level**2, 0.0))[:, None, None]
    noisy = crops.images + added * rng.standard_normal(crops.images.shape)
    return Crops(noisy.astype(np.float32), crops.real, crops.people, crops.pixel_mm)


MATCHES: dict[str, Callable[[Crops], Crops]] = {
    "raw": lambda crops: crops,
    "1 mm pixels": coarser,
    "same histogram": same_histogram,
    "same noise": same_noise,
}


def noise_of(images: FloatStack) -> NDArray[np.float64]:
    """Noise (N,) of crops from the median of their finest diagonal details (Donoho and Johnstone 1994)."""
    even = images[:, : images.shape[1] // 2 * 2, : images.shape[2] // 2 * 2]
    detail = even[:, 1::2, 1::2] + even[:, ::2, ::2] - even[:, 1::2, ::2] - even[:, ::2, 1::2]
    return np.asarray(np.median(np.abs(detail), axis=(1, 2)) / 2 / 0.6745, dtype=np.float64)


def band_powers(images: FloatStack) -> NDArray[np.float64]:
    """Logarithm of the mean spectral power (N, _BANDS) in rings from the picture's lowest to its highest frequencies."""
    height, width = images.shape[1:]
    window = np.hanning(height)[:, None] * np.hanning(width)[None]
    centred = images - images.mean(axis=(1, 2), keepdims=True)
    power = np.abs(np.fft.fft2(centred * window)) ** 2
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    ring = np.minimum((radius / 0.5 * _BANDS).astype(int), _BANDS - 1)
    return np.log(np.stack([power[:, ring == k].mean(axis=1) for k in range(_BANDS)], axis=1) + 1e-9)


def texture_features(crops: Crops) -> NDArray[np.float64]:
    """Band powers, quantiles of the grey values and noise (N, features): nothing of where things lie."""
    flat = crops.images.reshape(len(crops.images), -1)
    quantiles = np.quantile(flat, _QUANTILES, axis=1).T
    return np.concatenate(
        [band_powers(crops.images), quantiles, np.log(noise_of(crops.images) + 1e-4)[:, None]], axis=1
    )


def auc_lines(crops: Crops) -> list[str]:
    """One line per match: area under the curve of both linear classifiers, and on the raw crops of a small network."""
    lines = []
    for name, match in MATCHES.items():
        matched = match(crops)
        flat = matched.images.reshape(len(matched.images), -1).astype(np.float64)
        parts = [
            f"pixels (PCA, logistic) {_auc(cross_scores(flat, matched, _COMPONENTS), matched)}",
            f"texture (logistic) {_auc(cross_scores(texture_features(matched), matched, None), matched)}",
        ]
        if name == "raw":
            parts.append(f"small network {_auc(network_scores(matched), matched)}")
        lines.append(f"{name}: AUC " + "; ".join(parts))
    return lines


def place_lines(crops: Crops) -> list[str]:
    """Where the raw crops differ: area under the curve of each square of a quarter of the side, rows and columns as seen."""
    size = crops.images.shape[1] // _PLACES
    lines = [f"by place, squares of {size * crops.pixel_mm:.0f} mm, AUC in rows from the crop's upper edge:"]
    for row in range(_PLACES):
        values = []
        for column in range(_PLACES):
            part = crops.images[:, row * size : (row + 1) * size, column * size : (column + 1) * size]
            scores = cross_scores(part.reshape(len(part), -1).astype(np.float64), crops, _PLACE_COMPONENTS)
            values.append(roc_auc(np.stack([scores, crops.real], axis=1)))
        lines.append("  " + " ".join(f"{value:.2f}" for value in values))
    return lines


def folds_of(people: NDArray[np.str_]) -> NDArray[np.int64]:
    """Fold (N,) of every crop; a person is in one."""
    names, index = np.unique(people, return_inverse=True)
    return np.asarray(np.random.default_rng(_SEED).permutation(len(names))[index] % _FOLDS)


def cross_scores(features: NDArray[np.float64], crops: Crops, components: int | None) -> NDArray[np.float64]:
    """Held-out scores (N,) of a penalised logistic regression on standardised features, or on their principal components."""
    fold = folds_of(crops.people)
    scores = np.zeros(len(features))
    for number in range(_FOLDS):
        held = fold == number
        mean, scale = features[~held].mean(axis=0), features[~held].std(axis=0) + 1e-6
        part = (features - mean) / (1.0 if components else scale)
        if components:
            basis = np.linalg.svd(part[~held], full_matrices=False)[2][:components]
            part = part @ basis.T
            part = part / (part[~held].std(axis=0) + 1e-6)
        weights, offset = logistic_weights(part[~held], crops.real[~held].astype(np.float64), _PENALTY, intercept=True)
        scores[held] = part[held] @ weights + offset
    return scores


def network_scores(crops: Crops) -> NDArray[np.float64]:
    """Held-out scores (N,) of a small convolutional network (four strided layers), shifted and, in other tones, in training."""
    fold = folds_of(crops.people)
    pictures = torch.from_numpy(crops.images)[:, None]
    truth = torch.from_numpy(crops.real.astype(np.float32))
    scores = np.zeros(len(truth))
    for number in range(_FOLDS):
        torch.manual_seed(_SEED + number)
        layers: list[nn.Module] = []
        for before, after in ((1, 16), (16, 32), (32, 48), (48, 64)):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 1))
        optimiser = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=0.05)
        members = torch.from_numpy(np.flatnonzero(fold != number))
        for _ in range(_CNN_STEPS):
            drawn = members[torch.randint(len(members), (_CNN_BATCH,))]
            down, across = (int(value) for value in torch.randint(-4, 5, (2,)))
            batch = torch.roll(pictures[drawn], (down, across), (2, 3)) * torch.empty(len(drawn), 1, 1, 1).uniform_(
                0.85, 1.15
            )
            loss = nn.functional.binary_cross_entropy_with_logits(network(batch)[:, 0], truth[drawn])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        network.eval()
        with torch.inference_mode():
            scores[fold == number] = network(pictures[torch.from_numpy(fold == number)])[:, 0].double().numpy()
    return scores


def statistic_lines(crops: Crops) -> list[str]:
    """Medians of simple measures, real against simulated, with the Kolmogorov-Smirnov distance: where to look first."""
    powers, flat = band_powers(crops.images), crops.images.reshape(len(crops.images), -1)
    steps = np.hypot(*np.gradient(crops.images, axis=(1, 2)))
    measures = {
        "noise": noise_of(crops.images),
        "mean grey": flat.mean(axis=1),
        "grey, 10th percentile": np.quantile(flat, 0.1, axis=1),
        "grey, 90th percentile": np.quantile(flat, 0.9, axis=1),
        "coarse power (log)": powers[:, 1],
        "middle power (log)": powers[:, _BANDS // 3],
        "fine power (log)": powers[:, -5],
        "steepest edges (99th percentile of the gradient)": np.quantile(steps.reshape(len(steps), -1), 0.99, axis=1),
    }
    return [
        f"{name}: real {np.median(values[crops.real]):.3f}, simulated {np.median(values[~crops.real]):.3f}, "
        f"distance {ks_2samp(values[crops.real], values[~crops.real]).statistic:.2f}"
        for name, values in measures.items()
    ]


def draw_sheet(crops: Crops, path: Path) -> None:
    """Rows of real crops above rows of simulated ones, in the order they were made."""
    from PIL import Image

    kinds = [crops.images[kind][: _SHEET_TILES // 2] for kind in (crops.real, ~crops.real)]
    count = -(-max(len(part) for part in kinds) // _SHEET_COLUMNS) * _SHEET_COLUMNS
    filled = [
        np.concatenate([part, np.zeros((count - len(part), *part.shape[1:]), dtype=np.float32)]) for part in kinds
    ]
    rows = [
        np.hstack(list(part[start : start + _SHEET_COLUMNS]))
        for start in range(0, count, _SHEET_COLUMNS)
        for part in filled
    ]
    grey = (np.clip(np.vstack(rows), 0, 1) * 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey).resize((grey.shape[1] * 3 // 2, grey.shape[0] * 3 // 2)).save(path)


def _auc(scores: NDArray[np.float64], crops: Crops) -> str:
    rows = np.stack([scores, crops.real], axis=1)
    low, high = bootstrap_interval(rows, crops.people.tolist(), roc_auc)
    return f"{roc_auc(rows):.3f} (95 % {low:.3f} to {high:.3f})"
