"""From tissues to grey values: relaxation, slice profile, chemical shift, k-space window, Rician noise, coil shading.

Spin-echo equations; tissue values for 1.5 T and 3 T from Gold 2004, Stanisz 2005, de Bazelaire 2004 and PMC7410772.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

import numpy as np

from training.phantom.settings import ScannerSettings
from training.phantom.shapes import Field

# tissue: proton density, T1 and T2 at 1.5 T, T1 and T2 at 3 T (ms), fat or water
_TISSUES: dict[str, tuple[float, float, float, float, float, bool]] = {
    "csf": (1.0, 4200, 1600, 4300, 1500, False),
    "muscle": (0.80, 1000, 42, 1350, 34, False),
    "fat": (0.95, 300, 105, 375, 100, True),
    "marrow_water": (0.75, 950, 55, 1100, 50, False),
    "annulus": (0.62, 800, 38, 950, 33, False),
    "nucleus": (0.86, 1100, 80, 1200, 74, False),
    "nerve": (0.82, 950, 78, 1150, 70, False),
    "ganglion": (0.85, 1000, 95, 1200, 85, False),
    "flavum": (0.62, 900, 32, 1000, 28, False),
    "cortex": (0.06, 400, 4, 400, 4, False),
    "ligament": (0.5, 900, 18, 1000, 16, False),
    "cartilage": (0.75, 1000, 42, 1150, 38, False),
    "fluid": (1.0, 3500, 700, 3600, 650, False),
    "vein": (0.9, 1500, 160, 1700, 130, False),
    "artery": (0.05, 1500, 100, 1700, 90, False),
    "bowel": (0.80, 1100, 70, 1300, 60, False),
    "skin": (0.7, 900, 35, 1100, 32, False),
    "air": (0.0, 1000, 50, 1000, 50, False),
}
_NUCLEUS_T2 = (125.0, 100.0, 76.0, 56.0, 43.0)  # ms, Pfirrmann 1..5


@dataclass(frozen=True)
class Scanner:
    """One scanner session: field strength, and the signal of every tissue for each weighting."""

    tesla: float
    tr: dict[str, float]
    te: dict[str, float]
    jitter: dict[str, float]
    tag: str
    ranges: ScannerSettings

    def signal(self, tissue: str, weighting: str, *, t2: float | None = None) -> float:
        """Relative signal of a tissue on "t1" or "t2" images."""
        density, t1a, t2a, t1b, t2b, _ = _TISSUES[tissue]
        t1, t2_own = (t1a, t2a) if self.tesla < 2 else (t1b, t2b)
        t2_used = (t2 if t2 is not None else t2_own) * self.jitter[tissue]
        tr, te = self.tr[weighting], self.te[weighting]
        transfer = 0.85 if weighting == "t1" and tissue in {"muscle", "annulus", "nucleus"} else 1.0
        return float(density * transfer * (1 - exp(-(tr - te) / t1)) * exp(-te / t2_used))

    def is_fat(self, tissue: str) -> bool:
        """Whether the tissue's protons precess at the fat frequency."""
        return _TISSUES[tissue][5]

    def nucleus(self, weighting: str, pfirrmann: float) -> float:
        """Signal of the nucleus at a (continuous) Pfirrmann grade."""
        t2 = float(np.interp(pfirrmann, range(1, 6), _NUCLEUS_T2))
        return self.signal("nucleus", weighting, t2=t2 * (1.0 if self.tesla < 2 else 0.9))


def draw_scanner(rng: np.random.Generator, ranges: ScannerSettings) -> Scanner:
    """Field strength, TR/TE and jitter of every tissue's T2."""
    tesla = 3.0 if rng.random() < ranges.three_tesla_share else 1.5
    tr = {"t1": float(rng.uniform(*ranges.t1_repetition)), "t2": float(rng.uniform(*ranges.t2_repetition))}
    te = {"t1": float(rng.uniform(*ranges.t1_echo)), "t2": float(rng.uniform(*ranges.t2_echo))}
    jitter = {name: float(np.exp(rng.normal(0, ranges.relaxation_sd))) for name in _TISSUES}
    return Scanner(tesla, tr, te, jitter, f"{tesla:g}T", ranges)


@dataclass(frozen=True)
class Acquisition:
    """What one series does to its picture."""

    keep_row: float
    keep_column: float
    taper: float
    fat_shift_px: float
    shift_along_rows: bool
    noise: float
    bias: float
    bias_lateral: float
    bias_curve: float
    ghost: float
    ghost_shift: float
    ghost_along_rows: bool
    band_edge: float | None
    band_left: float


def draw_acquisition(
    rng: np.random.Generator, scanner: Scanner, pixel_mm: float, *, randomise: bool = True
) -> Acquisition:
    """Matrix, bandwidth, noise and shading of one series; `randomise` False gives a plain, quiet one."""
    if not randomise:
        return Acquisition(0.95, 0.9, 0.3, 0.6, True, 0.012, 0.0, 0.0, 0.0, 0.0, 0.0, True, None, 1.0)
    ranges = scanner.ranges
    acquired = (float(rng.uniform(*ranges.readout_pixel)), float(rng.uniform(*ranges.phase_pixel)))
    keep = tuple(float(np.clip(pixel_mm / size, 0.45, 1.0)) for size in acquired)
    flip = bool(rng.random() < 0.5)
    hertz = 224 * scanner.tesla / 1.5
    shift = hertz / float(rng.uniform(*ranges.bandwidth)) * (acquired[0] / pixel_mm) * float(rng.choice([-1, 1]))
    normalised = bool(rng.random() < ranges.normalised_share)
    beta = float(rng.uniform(*(ranges.shading_normalised if normalised else ranges.shading)))
    return Acquisition(
        keep_row=keep[0] if flip else keep[1],
        keep_column=keep[1] if flip else keep[0],
        taper=float(rng.uniform(*ranges.taper)),
        fat_shift_px=shift,
        shift_along_rows=bool(rng.random() < 0.5),
        noise=float(np.exp(rng.normal(np.log(ranges.noise_median), ranges.noise_log_sd))),
        bias=0.85 * beta,
        bias_lateral=0.16 * beta * float(rng.uniform(0, 1)),
        bias_curve=0.2 * beta * float(rng.uniform(-0.5, 1)),
        ghost=float(rng.uniform(*ranges.ghost)) if rng.random() < ranges.ghost_share else 0.0,
        ghost_shift=float(rng.uniform(0.15, 0.45)),
        ghost_along_rows=bool(rng.random() < 0.5),
        # a saturation band in front of the spine darkens what moves there
        band_edge=float(rng.uniform(-0.9, -0.5)) if rng.random() < 0.75 else None,
        band_left=float(rng.uniform(0.02, 0.35)),
    )


def _window(n: int, keep: float, taper: float) -> Field:
    k = np.abs(np.fft.fftfreq(n)) * 2 / keep
    ramp = np.clip((k - (1 - taper)) / taper, 0, 1)
    return np.where(k <= 1, 0.5 * (1 + np.cos(np.pi * 0.85 * ramp)), 0).astype(np.float32)


def acquire(
    water: Field, fat: Field, plan: Acquisition, rng: np.random.Generator, *, shade: tuple[Field, Field]
) -> Field:
    """Magnitude picture (rows, columns) of water and fat pictures of that shape.

    `shade` holds, per pixel, how far back (posterior) and how far to the side it lies, in units of 100 mm.
    """
    rows, columns = water.shape
    noise = rng.standard_normal((2, rows, columns), dtype=np.float32) * np.float32(plan.noise)
    back, side = shade
    gain = np.exp(plan.bias * back - plan.bias_lateral * np.abs(side) - plan.bias_curve * back**2).astype(np.float32)
    if plan.band_edge is not None:
        gain = gain * (plan.band_left + (1 - plan.band_left) / (1 + np.exp((plan.band_edge - back) / 0.03))).astype(
            np.float32
        )
    k_water = np.fft.fft2(water * gain)
    k_fat = np.fft.fft2(fat * gain)
    axis = 0 if plan.shift_along_rows else 1
    n = rows if axis == 0 else columns
    phase = np.exp(-2j * np.pi * np.fft.fftfreq(n) * plan.fat_shift_px).astype(np.complex64)
    k = k_water + k_fat * (phase[:, None] if axis == 0 else phase[None, :])
    if plan.ghost > 0:
        m = rows if plan.ghost_along_rows else columns
        shift = np.exp(-2j * np.pi * np.fft.fftfreq(m) * plan.ghost_shift * m).astype(np.complex64)
        k = k * (1 + plan.ghost * (shift[:, None] if plan.ghost_along_rows else shift[None, :]))
    k = k + np.fft.fft2(noise[0] + 1j * noise[1])
    k *= _window(rows, plan.keep_row, plan.taper)[:, None] * _window(columns, plan.keep_column, plan.taper)[None, :]
    return np.abs(np.fft.ifft2(k)).astype(np.float32)
