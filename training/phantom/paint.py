"""Paints tissues in order of priority into water and fat pictures, one pair per weighting.

Coverage of a pixel is clip(1/2 - distance/pixel, 0, 1); signals come from the scanner, grain from a noise block that belongs to the person.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from training.phantom.anatomy import Anatomy, DiscDraw
from training.phantom.scanner import Scanner
from training.phantom.scene import Scene, obstacle_of, root_field, sac_field
from training.phantom.shapes import Field
from training.phantom.surround import surround_fields
from training.phantom.texture import grain
from training.phantom.tissues import endplate_half_height, lesion_field, solids, zone_of

WEIGHTINGS = ("t1", "t2")
_DURA = 0.3
_BESIDE = 2.2  # where what a disc does to the marrow beside it has faded
_ANNULAR_MM, _OWN_SIGNAL_MM = 1.0, 2.0
"""Herniations of the first extent look like the annulus; the second further on they have a signal and a rim of their own."""


class Canvas:
    """Water and fat signal of every pixel for each weighting; later paint covers earlier paint."""

    def __init__(self, shape: tuple[int, ...], scanner: Scanner, weightings: tuple[str, ...]) -> None:
        self.scanner = scanner
        self.weightings = weightings
        self.water = {w: np.zeros(shape, dtype=np.float32) for w in weightings}
        self.fat = {w: np.full(shape, scanner.signal("fat", w), dtype=np.float32) for w in weightings}

    def copy_of(self, rows: slice, columns: slice) -> Canvas:
        """A canvas that starts from a part of this one."""
        part = Canvas((1, 1), self.scanner, self.weightings)
        part.water = {w: self.water[w][rows, columns].copy() for w in self.weightings}
        part.fat = {w: self.fat[w][rows, columns].copy() for w in self.weightings}
        return part

    def rows(self, rows: slice) -> Canvas:
        """Some rows of this canvas: what is painted on them is painted here."""
        part = Canvas((0, 0), self.scanner, self.weightings)
        part.water = {w: self.water[w][rows] for w in self.weightings}
        part.fat = {w: self.fat[w][rows] for w in self.weightings}
        return part

    def lay(self, alpha: Field, water: Mapping[str, Field | float], fat: Mapping[str, Field | float]) -> None:
        """Cover with given signals to the degree `alpha` (0..1)."""
        where = alpha > 0
        if not where.any():
            return
        a = alpha[where]
        for w in self.weightings:
            for image, new in ((self.water[w], water[w]), (self.fat[w], fat[w])):
                value = new[where] if isinstance(new, np.ndarray) else np.float32(new)
                image[where] += a * (value - image[where])

    def tissue(self, alpha: Field, name: str, scale: Field | float = 1.0, *, share_of_fat: Field | float = 0.0) -> None:
        """Cover with a tissue of the table, its signal times `scale`, with a share of fat mixed in."""
        water, fat = {}, {}
        for w in self.weightings:
            own = self.scanner.signal(name, w) * scale
            greasy = self.scanner.signal("fat", w) * share_of_fat
            water[w], fat[w] = own * (1 - share_of_fat), greasy
        self.lay(alpha, water, fat)


def _rows(mask: NDArray[np.bool_]) -> slice:
    """From the first to the last row that holds a point of the mask."""
    found = np.nonzero(mask.any(axis=1))[0]
    return slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 0)


def _cover(f: Field, h: float) -> Field:
    return np.clip(np.float32(0.5) - f * np.float32(1 / h), 0, 1)


def paint_surround(canvas: Canvas, anatomy: Anatomy, u: Field, v: Field, t: Field, lps: Field, h: float) -> None:
    """Muscles, vessels, pelvis, abdomen, skin and air."""
    f = surround_fields(anatomy, u, v, t, lps)
    seed = anatomy.seed
    lobule = grain(seed, 5, lps[..., 0], lps[..., 1], lps[..., 2], (4, 4, 4))
    canvas.tissue(np.ones_like(u), "fat", 1.0)
    for w in canvas.weightings:
        canvas.fat[w] *= 1 + np.float32(0.035) * lobule
    canvas.tissue(_cover(np.abs(lobule) - 0.03, 0.12) * 0.16, "ligament")
    loops = grain(seed, 6, lps[..., 0], lps[..., 1], lps[..., 2], (9, 9, 12))
    canvas.tissue(_cover(f["bowel"], 2 * h) * _cover(-loops - 0.1, 0.5), "bowel", 1 + 0.35 * loops)
    fat_post, fat_psoas = anatomy.muscle_fat
    # fibres and the fat between them run away from the facets: bands in polar coordinates around the arch
    angle = np.arctan2(v - 12, np.abs(u) + 2) * np.sign(u)
    reach = np.hypot(v - 12, u)
    streak = grain(seed, 1, angle * 24, reach, t, (0.9, 5.0, 4.0))
    coarse = grain(seed, 2, u, v, t, (4.0, 4.0, 9.0))
    mix = 0.9 * streak + 0.45 * coarse
    deep = 0.8 + 1.3 * np.exp(-np.clip(reach - 16, 0, None) / 9) + 0.3 * np.clip(1 - np.abs(u) / 30, 0, 1)
    septum = 1 - np.clip(np.abs(grain(seed, 7, u, v, t, (2.2, 3.0, 11.0))) / 0.16, 0, 1)
    for name, share in (
        ("quadratus", fat_psoas),
        ("psoas", fat_psoas),
        ("gluteus", 0.7 * fat_post),
        ("multifidus", fat_post),
    ):
        local = share * (deep if name == "multifidus" else 1.0)
        lobes = np.clip((mix - 1.45 + 2.0 * local) * 1.6, 0, 1) * np.clip(3.0 * local, 0, 0.85)
        greasy = 0.45 * local + lobes + 0.5 * septum * np.clip(local * 1.8, 0, 0.5)
        canvas.tissue(_cover(f[name] - 0.9, 0.9 + h) * 0.35, "ligament")
        share_map = np.clip(greasy, 0, 0.92).astype(np.float32)
        canvas.tissue(_cover(f[name], h), "muscle", 1 + 0.07 * coarse, share_of_fat=share_map)
    marrow = grain(seed, 3, u, v, t, (1.6, 1.6, 1.6))
    canvas.tissue(_cover(f["ilium"], h), "cortex")
    canvas.tissue(_cover(f["ilium"] + 1.4, h), "marrow_water", 1.0, share_of_fat=np.clip(0.5 + 0.1 * marrow, 0, 1))
    canvas.tissue(_cover(f["vein"], h), "vein", 0.35)
    canvas.tissue(_cover(f["artery"] - 0.6, h), "ligament")
    canvas.tissue(_cover(f["artery"], h), "artery")
    canvas.tissue(_cover(np.abs(f["surface"] + 1.2) - 1.2, h), "skin")
    canvas.tissue(_cover(-f["surface"], h), "air")
    for w in canvas.weightings:
        canvas.fat[w] *= 1 - _cover(-f["surface"], h)


def paint_spine(canvas: Canvas, scene: Scene, u: Field, v: Field, t: Field, h: float) -> dict[str, Field]:
    """Vertebrae, discs, ligaments, sac and roots; returns the distances that labels and truth are read from."""
    anatomy = scene.anatomy
    f = solids(anatomy, u, v, t)
    obstacle = obstacle_of(f)
    f["sac"] = sac_field(scene, u, v, t, obstacle)
    f["root"] = root_field(scene, u, v, t)
    seed = anatomy.seed
    marrow = grain(seed, 3, u, v, t, (1.6, 1.6, 1.6))
    fine = grain(seed, 4, u, v, t, (0.9, 0.9, 0.9))
    dg = float(np.clip((anatomy.age - 25) / 60, 0, 1))
    patch = grain(seed, 9, u, v, t, (6.0, 6.0, 5.0))
    fat_share = np.clip(0.40 + 0.18 * dg + 0.06 * marrow + 0.04 * fine + 0.06 * patch, 0.1, 0.9).astype(np.float32)
    for disc in anatomy.discs:
        away = (t - np.float32(disc.t)) / np.float32(disc.height_posterior / 2 + 7)
        if disc.modic != 0.0 and np.abs(away).min() < _BESIDE:
            # squared twice: a power of four takes many times as long
            beside = np.exp(-np.square(np.square(away)))
            fat_share = np.clip(fat_share + 0.3 * disc.modic * beside * np.clip(0.6 + 0.5 * patch, 0, 1), 0.05, 0.95)
    thin = anatomy.cortex * (1 + 0.3 * marrow)

    # clear the place of muscle and vessels around the canal: epidural and foraminal fat
    foramen = np.maximum(np.abs(u) - 26 - 3 * patch, np.abs(v + 1) - 8)
    fatty = np.minimum(foramen, np.maximum(np.abs(u) - 13, np.abs(v - 8) - 14)).astype(np.float32)
    canvas.tissue(_cover(fatty, 3.0), "fat", 1 + 0.04 * marrow)
    strip = np.minimum(f["sap"], f["iap"]) - 1.0 - 1.2 * patch - 1.2 * marrow - 7 * anatomy.muscle_fat[0]
    strip = np.maximum(strip, np.abs(u) - 30)
    canvas.tissue(_cover(strip.astype(np.float32), 1.5) * (v > 6) * np.float32(0.85), "fat", 1 + 0.04 * marrow)
    behind = np.maximum(np.abs(u) - 3.2, np.abs(v - 34) - 14).astype(np.float32)
    canvas.tissue(_cover(behind, 2.0) * np.float32(0.7), "ligament", share_of_fat=0.45)
    veins = grain(seed, 8, u, v, t, (1.1, 1.1, 3.0))
    canvas.tissue(_cover((1.9 - veins) * 1.5, 1.0) * _cover(fatty + 2, 3.0) * np.float32(0.8), "vein", 0.6)

    longitudinal = np.minimum(f["body"], f["disc"]) - np.float32(0.6)
    canvas.tissue(_cover(longitudinal, h) * np.float32(0.7), "ligament")
    f_body = f["body"]
    canvas.tissue(_cover(f_body, h), "cortex")
    canvas.tissue(_cover(f_body + thin, h), "marrow_water", share_of_fat=fat_share)
    _paint_lesions(canvas, anatomy, ("marrow",), u, v, t, h, _cover(f_body + thin, h))
    for vertebra in anatomy.vertebrae:
        middle = np.float32((vertebra.top + vertebra.bottom) / 2)
        r = _rows(np.abs(t - middle) < 4)
        vein = np.maximum(
            np.abs(t[r] - middle) - 1.2, np.maximum(np.abs(u[r]) - 3.0 - 0.25 * (v[r] + 9), np.abs(v[r] + 4) - 5)
        )
        canvas.rows(r).tissue(_cover(vein.astype(np.float32), 2 * h) * np.float32(0.45), "vein", 0.8)
    bone = np.minimum(f["arch"], np.minimum(f["sap"], f["iap"]))
    canvas.tissue(_cover(f["flavum"], h), "flavum", 1 + 0.1 * fine)
    canvas.tissue(_cover(f["joint"], h), "cartilage")
    canvas.tissue(_cover(bone, h), "cortex")
    canvas.tissue(_cover(bone + 1.15 * thin, h), "marrow_water", share_of_fat=np.clip(fat_share + 0.05, 0, 1))
    fluid = f["joint"] + np.float32(0.8)
    canvas.tissue(_cover(fluid, h) * np.float32(0.7), "fluid", 0.8)
    _paint_disc(canvas, anatomy, f, u, v, t, h, fine, marrow)
    _paint_lesions(canvas, anatomy, ("filled", "solid"), u, v, t, h, np.ones_like(u))
    _paint_sac(canvas, scene, f, u, v, t, h, fine)
    return f


def _paint_lesions(
    canvas: Canvas, anatomy: Anatomy, kinds: tuple[str, ...], u: Field, v: Field, t: Field, h: float, within: Field
) -> None:
    """Lesions of these kinds, each with its capsule, as far as `within` (0..1) lets them show."""
    for lesion in anatomy.lesions:
        if lesion.kind in kinds:
            field = lesion_field(lesion, u, v, t)
            cover = _cover(field, h) * within
            canvas.tissue(cover, lesion.tissue, lesion.signal, share_of_fat=lesion.share_of_fat)
            canvas.tissue(_cover(np.abs(field) - 0.4, h) * within * np.float32(lesion.rim), "ligament")


def _paint_disc(
    canvas: Canvas,
    anatomy: Anatomy,
    f: dict[str, Field],
    u: Field,
    v: Field,
    t: Field,
    h: float,
    fine: Field,
    marrow: Field,
) -> None:
    near = (f["disc"] < 2 * h) | (f["hernia"] < 2 * h)
    if not near.any():
        return
    depth = -f["outline"]
    lamella = (1 + 0.07 * np.cos(depth * np.float32(2 * np.pi / 1.9)) + 0.07 * fine).astype(np.float32)
    outer = np.clip(depth / 2.2, 0, 1) * 0.35 + 0.65
    annulus = lamella * outer
    canvas.tissue(_cover(f["disc"], h), "annulus", annulus)
    herniated = f["hernia"] < 2 * h
    for i, mask in enumerate(zone_of(anatomy, t)):
        if (mask & near).any():
            disc = anatomy.discs[i]
            r = _rows((mask & near) | (herniated if disc.herniation is not None else False))
            part = {name: f[name][r] for name in ("disc", "hernia", "outline")}
            _paint_inner(canvas.rows(r), disc, mask[r], part, u[r], v[r], t[r], h, fine[r], marrow[r], annulus[r])


def _paint_inner(
    canvas: Canvas,
    disc: DiscDraw,
    mask: NDArray[np.bool_],
    f: dict[str, Field],
    u: Field,
    v: Field,
    t: Field,
    h: float,
    fine: Field,
    marrow: Field,
    annulus: Field,
) -> None:
    """Nucleus, fissure and herniated material of one disc; `mask` is its zone, `annulus` the texture of the annulus."""
    radius = np.sqrt((u / (0.375 * disc.width)) ** 2 + ((v + 0.5 * disc.depth) / (0.365 * disc.depth)) ** 2)
    height = endplate_half_height(disc, u, v)
    inside = np.maximum((radius - 1) * np.float32(0.33 * disc.depth), np.abs(t - np.float32(disc.t)) - height * 0.78)
    alpha = np.where(mask, np.clip(0.5 - inside / 4.0, 0, 1), 0).astype(np.float32) * _cover(f["disc"], h)
    scale = (1 + 0.08 * marrow + 0.05 * fine).astype(np.float32)
    signal = {w: canvas.scanner.nucleus(w, disc.pfirrmann) * scale for w in canvas.weightings}
    canvas.lay(alpha, signal, dict.fromkeys(canvas.weightings, 0.0))
    if disc.fissure_u is not None:
        tear = np.sqrt(
            ((u - disc.fissure_u) / 2.2) ** 2 + (f["outline"] + 2.2) ** 2 + ((t - np.float32(disc.t)) / 1.8) ** 2
        )
        tear = np.where(v > -0.5 * disc.depth, tear - 1, 9).astype(np.float32)
        canvas.tissue(_cover(tear, h) * _cover(f["disc"], h) * mask * np.float32(0.7), "fluid", 0.8)
    h_draw = disc.herniation
    if h_draw is not None:
        # what hardly leaves the disc is annulus as the disc is: no signal, texture or rim of its own gives it away
        own = np.float32(np.clip((h_draw.extent - _ANNULAR_MM) / _OWN_SIGNAL_MM, 0, 1))
        gel, plain = h_draw.t2_mix * own, annulus * (1 - own) + (0.95 + 0.08 * fine) * own
        mixed = {
            w: (canvas.scanner.signal("annulus", w) * (1 - gel) + canvas.scanner.signal("nucleus", w, t2=85) * gel)
            * plain
            for w in canvas.weightings
        }
        wide = mask | (f["hernia"] < h)
        soft = np.clip(0.5 + f["outline"] / 3.0, 0, 1)
        canvas.lay(_cover(f["hernia"], h) * wide * soft, mixed, dict.fromkeys(canvas.weightings, 0.0))
        rim = _cover(np.abs(f["hernia"]) - 0.35, h) * np.float32(0.6) * soft * own
        canvas.tissue(rim, "ligament")


def _paint_sac(
    canvas: Canvas, scene: Scene, f: dict[str, Field], u: Field, v: Field, t: Field, h: float, fine: Field
) -> None:
    canvas.tissue(_cover(f["root"], h), "nerve", 1 + 0.05 * fine)
    sac = f["sac"]
    canvas.tissue(_cover(sac, h) * np.float32(0.8), "ligament", 0.8)
    canvas.tissue(_cover(sac + _DURA, h), "csf")
    near = sac < 1.0
    if not near.any():
        return
    cauda = np.full(u.shape, np.float32(9), dtype=np.float32)
    cauda[near] = cauda_field(scene, u[near], v[near], t[near])
    canvas.tissue(_cover(cauda, h) * _cover(sac + _DURA + 0.2, h), "nerve")


def cauda_field(scene: Scene, u: Field, v: Field, t: Field) -> Field:
    """Roots inside the sac: those that leave next lie in front at the sides, the lower ones behind and in the middle; conus above."""
    anatomy = scene.anatomy
    rows = scene.sac.at(t)
    half, ap = rows[..., 0] + rows[..., 5] * 0.5, rows[..., 1]
    x, y = u - rows[..., 3], v - rows[..., 2] - rows[..., 4]
    out = np.full(t.shape, np.float32(9), dtype=np.float32)
    rng = np.random.default_rng([anatomy.seed, 31])
    low, high = float(t.min()), float(t.max())
    names = anatomy.settings.vertebrae
    order = ["L2", "L3", "L4", "L5", "S1", "S2", "S3", "S4"]
    crowd = rng.normal(0, 0.05)
    for rank, name in enumerate(order):
        leave = anatomy.discs[names.index(name) - 1].t
        for side in (1, -1):
            for strand in range(3 if rank < 5 else 2):
                ru, rv, ra, rb = rng.normal(0, 0.09), rng.normal(0, 0.07), rng.uniform(0, 6.28), rng.uniform(14, 30)
                radius = float(rng.uniform(0.42, 0.78)) * (1.0 if rank < 6 else 0.75)
                end = leave - float(rng.uniform(-8, 6))
                if high < end or low > anatomy.conus + 10:
                    continue
                ahead = np.clip((t - leave) / 110, 0, 1)  # how far above its exit
                spread = 0.80 - 0.75 * ahead**0.6 + ru + 0.06 * (strand - 1)
                height = -0.22 + 0.60 * ahead**0.5 + rv + crowd + 0.05 * strand
                sway = 0.05 * np.sin(t / rb + ra)
                px = side * half * np.clip(spread + sway, 0.03, 0.86)
                py = ap * np.clip(height, -0.42, 0.36)
                f = np.sqrt((x - px) ** 2 + (y - py) ** 2) - radius
                f = np.maximum(f, end - t)
                out = np.minimum(out, f)
    cord = np.clip((t - anatomy.conus) / 25, 0, 1)
    conus = np.sqrt((x / 1.25) ** 2 + (y - 0.05 * ap) ** 2) - 4.0 * cord
    conus = np.where(t > anatomy.conus, conus, 9)
    return np.minimum(out, conus).astype(np.float32)
