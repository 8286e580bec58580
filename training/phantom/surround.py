"""Muscles, vessels, pelvis, abdomen and skin around the spine, evaluated on a coarse lattice.

Shapes and muscle fat: estimates after published cross-sections (PMC7063279 for fat fractions).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter1d

from training.phantom.anatomy import Anatomy
from training.phantom.shapes import Field, smooth_max, superellipse


def _along(anatomy: Anatomy, t: Field, values: dict[str, float]) -> Field:
    """Interpolate values given at discs along the canal."""
    pairs = sorted((anatomy.discs[anatomy.disc_index(name)].t, value) for name, value in values.items())
    return np.interp(t, [p[0] for p in pairs], [p[1] for p in pairs]).astype(np.float32)


_SKIN_SIGMA = 120  # table steps of 0.5 mm over which the back is smoother than the spine (estimate)


def surround_fields(anatomy: Anatomy, u: Field, v: Field, t: Field, lps: Field) -> dict[str, Field]:
    """Distances (mm, negative inside) of psoas, multifidus, quadratus, ilium, gluteus, artery, vein, bowel, body surface."""
    size = np.float32(anatomy.size)
    names = ("L1-L2", "L3-L4", "L4-L5", "L5-S1", "S1-S2")

    def at(*values: float) -> Field:
        return _along(anatomy, t, dict(zip(names, values, strict=True))) * size

    front_size, back_size, uneven = anatomy.muscle_size
    au = np.abs(u)
    side = np.sign(u) * np.float32(uneven)
    out: dict[str, Field] = {}
    half = at(22, 25, 26.5, 26, 24)
    out["psoas"] = superellipse(
        au - half - at(7, 12, 15, 21, 28),
        v + at(14, 14, 15, 25, 38),
        at(9, 14, 16.5, 15, 13) * front_size + 0.3 * side,
        at(14, 20, 22, 19.5, 17) * front_size,
        2.2,
    )
    cu, cv = at(33, 36, 35, 29, 22), at(34, 35, 35, 36, 34)
    block = superellipse(
        au - cu - side, v - cv, at(33, 36, 34, 27, 20) * back_size, at(23, 26, 27, 24, 16) * back_size, 2.7
    )
    cleft = np.abs(au - (29 - 0.22 * (v - 20))) - 0.5
    # the erector group thins out over the sacrum
    out["multifidus"] = np.maximum(np.maximum(block, -cleft), 3.2 - au)
    quadratus = superellipse(
        au - at(58, 60, 58, 60, 60), v - at(8, 4, 2, 0, 0), at(14, 17, 14, 2, 2), at(9, 10, 9, 2, 2), 2.2
    )
    out["quadratus"] = quadratus
    blade = smooth_max(
        np.abs((au - at(96, 92, 78, 64, 50)) * 0.72 + (v - at(16, 16, 16, 18, 22)) * 0.69) - at(3, 4, 5, 7, 9),
        np.abs((v - at(5, 5, 5, 8, 10)) * 0.72 - (au - at(80, 80, 76, 66, 54)) * 0.69) - at(2, 12, 32, 38, 42),
        5.0,
    )
    top = anatomy.discs[anatomy.disc_index("L4-L5")].t + np.float32(4)
    out["ilium"] = np.maximum(blade, (t - top) * 0.6).astype(np.float32)
    out["gluteus"] = np.maximum(
        np.maximum(
            np.abs((au - at(110, 104, 96, 86, 74)) * 0.72 + (v - at(22, 22, 22, 26, 32)) * 0.69) - at(4, 4, 12, 18, 22),
            np.abs((v - at(5, 5, 5, 8, 10)) * 0.72 - (au - at(80, 80, 80, 74, 62)) * 0.69) - at(2, 4, 26, 38, 44),
        ),
        (t - top) * 0.6,
    ).astype(np.float32)
    shift_u, shift_v, fork = anatomy.vessel_shift
    split_t = anatomy.discs[anatomy.disc_index("L4-L5")].t + fork
    before = at(-43, -46, -47, -45, -40) + shift_v
    spread = np.clip((split_t + 10 - t) * 0.62, 0, 34)
    left = np.where(
        spread > 4,
        superellipse(u - (6 + shift_u * 0.5 + 0.62 * spread), v - before, 5.5, 5.5, 2),
        superellipse(u - (9 + shift_u * 0.5), v - before + 3, 8.5, 8.5, 2),
    )
    right = np.where(spread > 4, superellipse(u - (6 + shift_u * 0.5 - 0.75 * spread), v - before, 5.5, 5.5, 2), 99)
    out["artery"] = np.minimum(left, right).astype(np.float32)
    vein = superellipse(u - (-12 - 0.3 * spread + shift_u * 0.5), v - before - 1, 9.5, 6.5, 2)
    vein2 = np.where(spread > 12, superellipse(u - (-2 + 0.45 * spread), v - before - 6, 7, 5, 2), 99)
    out["vein"] = np.minimum(vein, vein2).astype(np.float32)
    out["surface"], out["bowel"] = _trunk(anatomy, lps)
    return out


def _trunk(anatomy: Anatomy, lps: Field) -> tuple[Field, Field]:
    """Skin and bowel, in scanner coordinates: far from the spine its own planes would cross."""
    behind = float(np.clip(50 + 2.2 * (anatomy.bmi - 25), 26, 92)) + 22
    front = 105 + 3.5 * (anatomy.bmi - 19)
    width = 150 + 4.0 * (anatomy.bmi - 19)
    x, y, z = lps[..., 0], lps[..., 1], lps[..., 2]
    away = (y - _trunk_line(anatomy, z)).astype(np.float32)
    groove = 5 * np.exp(-((x / 16) ** 2)) * (away > 0)
    centre, half = (behind - front) / 2, (behind + front) / 2
    surface = superellipse(x, away - centre + groove, width, half, 2.6)
    belly = superellipse(x, away + front - 0.55 * (front - 45), width * 0.72, 0.5 * (front - 45), 2.5)
    return surface, belly


@lru_cache(maxsize=8)
def _trunk_table(anatomy: Anatomy) -> tuple[Field, Field]:
    """z and y of a line through the trunk that is much smoother than the spine (the back is nearly straight)."""
    table = anatomy.curve.table
    return table[:, 2], gaussian_filter1d(table[:, 1].astype(np.float64), _SKIN_SIGMA, mode="nearest").astype(
        np.float32
    )


def _trunk_line(anatomy: Anatomy, z: Field) -> Field:
    height, y = _trunk_table(anatomy)
    return np.interp(z, height, y).astype(np.float32)
