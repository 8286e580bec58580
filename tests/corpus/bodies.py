"""What is no lumbar spine though its headers say so (classes S-01, S-03): other parts of a body, a phantom, an empty coil.

Rough bodies by code, in the series of the small study with BodyPartExamined LSPINE; the shipped networks must refuse them by
content. One seed differs from the other by size and noise.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from dicom_io import read_study
from inference.analyze import Engine, analyze
from tests.corpus.case import Case, written
from tests.corpus.small_study import File, Series, dataset_of, encode, study_series

Points = np.ndarray  # (..., 3) LPS mm
Signals = dict[str, float]
_T1: Signals = {
    "fat": 900,
    "muscle": 300,
    "marrow": 520,
    "cortex": 20,
    "water": 110,
    "grey": 300,
    "white": 420,
    "cord": 330,
}
_T2: Signals = {
    "fat": 800,
    "muscle": 140,
    "marrow": 330,
    "cortex": 15,
    "water": 1000,
    "grey": 480,
    "white": 330,
    "cord": 300,
}


def _inside(points: Points, centre: tuple[float, float, float], axes: tuple[float, float, float]) -> np.ndarray:
    return (((points - np.array(centre)) / np.array(axes)) ** 2).sum(axis=-1) < 1.0


def _tube(points: Points, y: float, radius_x: float, radius_y: float, x: float = 0.0) -> np.ndarray:
    return ((points[..., 0] - x) / radius_x) ** 2 + ((points[..., 1] - y) / radius_y) ** 2 < 1.0


def _paint(shape: tuple[int, ...], parts: list[tuple[np.ndarray, float]]) -> np.ndarray:
    values = np.zeros(shape)
    for where, signal in parts:
        values[where] = signal
    return values


def brain(points: Points, s: Signals) -> np.ndarray:
    """Scalp, skull, fluid, grey and white matter, ventricles, cerebellum."""
    shells = (
        (78, 92, 88, "fat"),
        (73, 87, 83, "cortex"),
        (69, 83, 79, "water"),
        (67, 81, 77, "grey"),
        (60, 73, 69, "white"),
    )
    parts = [(_inside(points, (0, -12, 15), (a, b, c)), s[name]) for a, b, c, name in shells]
    parts += [(_inside(points, (side * 14, -15, 22), (7, 28, 14)), s["water"]) for side in (-1, 1)]
    parts += [
        (_inside(points, (0, 38, -30), (42, 26, 22)), s["grey"]),
        (_inside(points, (0, 5, -55), (12, 12, 30)), s["white"]),
    ]
    return _paint(points.shape[:-1], parts)


def knee(points: Points, s: Signals) -> np.ndarray:
    """Femur with condyles, tibia, kneecap, cartilage and joint fluid in a leg."""
    z = points[..., 2]
    leg = _tube(points, -12, 66, 62)
    parts = [(leg, s["fat"]), (_tube(points, -12, 56, 52), s["muscle"])]
    condyles = _inside(points, (-22, -15, 16), (24, 30, 26)) | _inside(points, (22, -15, 16), (24, 30, 26))
    femur, tibia = (
        condyles | (_tube(points, -12, 16, 16) & (z > 16)),
        _tube(points, -12, 42, 28) & (z < -16) & (z > -40),
    )
    tibia |= _tube(points, -12, 18, 18) & (z < -38)
    parts += [(_inside(points, (0, -15, -8), (46, 34, 12)), s["water"]), (femur | tibia, s["marrow"])]
    parts += [(_inside(points, (0, -62, 14), (20, 9, 20)), s["marrow"])]
    return _paint(points.shape[:-1], parts)


def _spine(
    points: Points, s: Signals, *, depth: float, step: float, disc: float, trunk: float, cord: float
) -> np.ndarray:
    z = points[..., 2]
    column = _tube(points, -18, depth * 0.6, depth / 2)
    between = np.abs((z + step / 2) % step - step / 2) < disc / 2
    canal_y = -18 + depth / 2 + cord + 4
    parts = [(_tube(points, -12, trunk, trunk), s["fat"]), (_tube(points, -12, trunk * 0.9, trunk * 0.88), s["muscle"])]
    parts += [(column & ~between, s["marrow"]), (column & between, s["cord"])]
    parts += [
        (_tube(points, canal_y, cord * 1.8, cord * 1.6), s["water"]),
        (_tube(points, canal_y, cord, cord * 0.8), s["cord"]),
    ]
    return _paint(points.shape[:-1], parts)


def cervical(points: Points, s: Signals) -> np.ndarray:
    """Small vertebrae close together, a cord in a wide canal, a slender neck."""
    return _spine(points, s, depth=15, step=17, disc=5, trunk=58, cord=4.5)


def thoracic(points: Points, s: Signals) -> np.ndarray:
    """Discs and vertebrae of lumbar size, one above the other without a curve and without a sacrum; a cord in the canal."""
    return _spine(points, s, depth=36, step=34, disc=8, trunk=90, cord=8)


def pelvis(points: Points, s: Signals) -> np.ndarray:
    """Heads of both femurs, sacrum, a full bladder."""
    parts = [(_tube(points, -12, 140, 95), s["fat"]), (_tube(points, -12, 130, 80), s["muscle"])]
    parts += [(_inside(points, (side * 85, -20, -20), (25, 25, 25)), s["marrow"]) for side in (-1, 1)]
    parts += [
        (_inside(points, (0, 48, 30), (45, 14, 50)), s["marrow"]),
        (_inside(points, (0, -50, -10), (38, 28, 32)), s["water"]),
    ]
    return _paint(points.shape[:-1], parts)


def bottle(points: Points, s: Signals) -> np.ndarray:
    """The scanner's own phantom: a bottle of water with a bubble."""
    bubble = _inside(points, (0, -60, 0), (12, 8, 30))
    return _paint(
        points.shape[:-1], [(_tube(points, -12, 62, 62) & (np.abs(points[..., 2]) < 95), s["water"]), (bubble, 0.0)]
    )


def empty(points: Points, s: Signals) -> np.ndarray:
    """Nothing but noise."""
    return np.zeros(points.shape[:-1])


Body = Callable[[Points, Signals], np.ndarray]


def _pixels(
    series: Series, place: np.ndarray, turn: np.ndarray, body: Body, rng: np.random.Generator, size: float
) -> bytes:
    rows, columns = np.mgrid[0 : series.shape[0], 0 : series.shape[1]]
    points = place + columns[..., None] * series.spacing[1] * turn[:3] + rows[..., None] * series.spacing[0] * turn[3:]
    values = body(points / size, _T1 if series.weighting == "t1" else _T2)
    return bytes(np.clip(values + 20 + rng.normal(0, 12, series.shape), 0, 4095).astype("<u2").tobytes())


def made(body: Body, seed: int) -> list[File]:
    """The series of the small study with the pictures of a body in them."""
    rng = np.random.default_rng([seed, len(body.__name__)])
    size = 1.0 + 0.06 * (seed % 3)
    files = []
    for series in study_series():
        for number, (place, turn) in enumerate(zip(series.positions, series.orientations, strict=True)):
            dataset = dataset_of(seed, series, number, place, turn)
            dataset.PixelData = _pixels(series, place, turn, body, rng, size)
            files.append((f"{series.name}/{number:03d}", encode(dataset)))
    return files


@cache
def _engine() -> Engine:
    return Engine.load("cpu")


def _refused(body: Body, code: str = "NOT_LUMBAR") -> Callable[[int], str]:
    def check(seed: int) -> str:
        with tempfile.TemporaryDirectory() as name:
            study = read_study(written(made(body, seed), Path(name), seed))
            report = analyze(study, engine=_engine()).report
        if report.findings:
            return f"{len(report.findings)} findings"
        told = {warning.code for warning in report.warnings}
        refused = report.status == "abstained" and code in told
        return "" if refused else f"{report.status}, {report.abstained_reason}, {sorted(told)}"

    return check


CASES: tuple[Case, ...] = (
    *(
        Case(number, name, check=_refused(body), outcome="nothing is read: NOT_LUMBAR, by content", costly=True)
        for number, name, body in (
            ("S-01", "brain", brain),
            ("S-01", "cervical spine", cervical),
            ("S-01", "knee", knee),
            ("S-01", "pelvis", pelvis),
            ("S-03", "bottle", bottle),
            ("S-03", "empty coil", empty),
        )
    ),
    *(
        Case(
            number,
            "thoracic spine with discs of lumbar size",
            check=_refused(thoracic, "SCOPE_UNCERTAIN"),
            outcome="nothing is read: SCOPE_UNCERTAIN, by the column's course",
            costly=True,
        )
        for number in ("S-01", "S-13")
    ),
)
