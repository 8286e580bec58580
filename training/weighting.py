"""Fits the numbers by which dicom_io.contrast tells T1 from T2 (`python -m training.weighting DATA`), and prints how well.

Pictures: SPIDER mid-sagittal T1 and T2 (CC BY 4.0), Sudirman axial T1 and the axial T2 pictures that come with it.
Cross-validated by patient.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage, optimize

from configs.loader import config_path
from dicom_io.contrast import axial_features, back_region, fat_brightness, sagittal_features
from dicom_io.geometry import FloatArray

_RIDGE = 0.3  # inverse strength of the penalty on the weights
_FOLDS = 5
_AXIAL_FIELD_MM = 220.0  # field of view the publisher states for the axial pictures
_AXIAL_PIXEL_MM = 0.6875
_SOURCE = "SPIDER mid-sagittal pictures (van der Graaf 2024); Sudirman axial pictures (10.17632/k57fr854j2)"


class Picture(NamedTuple):
    patient: str
    is_t2: bool
    region: FloatArray


def sagittal_pictures(data: Path, every: int = 1) -> list[Picture]:
    """Regions of the SPIDER mid-sagittal pictures under `data`/spider/midsag; only each `every`th."""
    folder = data / "spider" / "midsag"
    with (folder / "index.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    found = []
    for row in rows[::every]:
        region = _region(folder / row["file"], float(row["pixel_spacing_stored"]), sagittal=True)
        if region is not None:
            found.append(Picture(row["patient"], row["sequence"] == "t2", region))
    return found


def axial_pictures(data: Path, every: int = 1) -> list[Picture]:
    """Regions of the axial pictures under `data`/axial; the T2 ones name no patient, each counts as its own."""
    found = []
    for name, is_t2 in (("sudirman_t1", False), ("sudirman_t1_crops", False), ("sudirman_t2_unidentified", True)):
        for path in sorted((data / "axial" / name).glob("*.png"))[::every]:
            with Image.open(path) as image:
                spacing = _AXIAL_FIELD_MM / image.height if is_t2 else _AXIAL_PIXEL_MM
            region = _region(path, spacing, sagittal=False)
            if region is not None:
                found.append(Picture(path.stem if is_t2 else path.stem.split("_")[1], is_t2, region))
    return found


def _region(path: Path, spacing: float, *, sagittal: bool) -> FloatArray | None:
    with Image.open(path) as image:
        picture = np.asarray(image.convert("L"), dtype=np.float64)
    return back_region(ndimage.zoom(picture, spacing, order=1), sagittal)


def fit_linear(features: FloatArray, is_t2: FloatArray) -> dict[str, object]:
    """Penalised logistic fit with both classes of equal weight; keys as in dicom_io.contrast.LinearCut."""
    mean, scale = features.mean(axis=0), features.std(axis=0)
    design = np.c_[(features - mean) / scale, np.ones(len(features))]
    sign = np.where(is_t2, 1.0, -1.0)
    weight = np.where(is_t2, 0.5 / is_t2.mean(), 0.5 / (1 - is_t2.mean()))

    def loss(beta: FloatArray) -> float:
        return float((weight * np.logaddexp(0, -sign * (design @ beta))).sum() + (beta[:-1] ** 2).sum() / (2 * _RIDGE))

    beta = optimize.minimize(loss, np.zeros(design.shape[1]), method="L-BFGS-B").x
    return {
        "mean": mean.round(6).tolist(),
        "scale": scale.round(6).tolist(),
        "weights": beta[:-1].round(6).tolist(),
    } | {"bias": round(float(beta[-1]), 6)}


def cross_validate(
    pictures: list[Picture], features_of: Callable[[FloatArray], FloatArray]
) -> tuple[dict[str, object], str]:
    """The fit on all pictures, and a line with the share told rightly when their patient was left out."""
    features = np.array([features_of(picture.region) for picture in pictures])
    is_t2 = np.array([picture.is_t2 for picture in pictures])
    patients = np.unique([picture.patient for picture in pictures])
    fold_of = dict(zip(np.random.default_rng(0).permutation(patients), np.arange(len(patients)) % _FOLDS, strict=True))
    fold = np.array([fold_of[picture.patient] for picture in pictures])
    odds = np.zeros(len(pictures))
    for number in range(_FOLDS):
        cut = fit_linear(features[fold != number], is_t2[fold != number])
        scaled = (features[fold == number] - np.array(cut["mean"])) / np.array(cut["scale"])
        odds[fold == number] = scaled @ np.array(cut["weights"]) + float(str(cut["bias"]))
    t1, t2 = (odds[~is_t2] < 0).mean(), (odds[is_t2] > 0).mean()
    line = f"T1 {t1:.3f} of {(~is_t2).sum()}, T2 {t2:.3f} of {is_t2.sum()} pictures told rightly, left out by patient"
    return fit_linear(features, is_t2), line


def main(data: Path) -> None:
    """Fit both planes, write configs/contrast.json and report on standard output."""
    sagittal = sagittal_pictures(data)
    brightness = np.array([fat_brightness(picture.region) for picture in sagittal])
    sagittal_cut, sagittal_line = cross_validate(sagittal, sagittal_features)
    axial_cut, axial_line = cross_validate(axial_pictures(data), axial_features)
    dark = round(float(np.percentile(brightness, 1)), 3)
    model = {"source": _SOURCE, "fat_dark_below": dark, "grey_zone": 0.25, "sagittal": sagittal_cut, "axial": axial_cut}
    path = config_path("contrast.json")
    path.write_text(json.dumps(model, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"sagittal: {sagittal_line}\naxial: {axial_line}\nfat is dark below {dark}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
