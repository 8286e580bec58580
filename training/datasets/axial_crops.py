"""Cuts of simulated axial slices around the canal, rendered once into shards and read many times.

Every shard is an npz of images, labels (numbers of configs/anatomy.toml), places and exact truth in mm. Seeds of the splits
never meet: training 1,000,000 and up (three slices a disc), 1,500,000 and up (whole stacks) and 3,000,000 and up (T2 stacks of
others, for a last round), validation (choices) 2,000,000 and up; whole studies are tested on 9,100,000 and up, those outside the
ranges of training on 9,700,000 and up; calibrated on 10,200,000 and up, and outside the ranges on 10,700,000 and up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

FIRST_SEED = {
    "train": 1_000_000,
    "stacks": 1_500_000,
    "validation": 2_000_000,
    "stacks_second": 3_000_000,
    "study": 9_100_000,
    "beyond": 9_700_000,
    "calibration": 10_200_000,
    "calibration_beyond": 10_700_000,
}
SIZE, PIXEL_MM = 208, 0.6
Split = Literal["train", "stacks", "stacks_second", "validation"]
"""Splits that are cuts; the others are whole studies."""
_TAUGHT_LEVELS = ("L4-L5", "L5-S1", "L3-L4")
_LEVELS: dict[str, tuple[str, ...]] = {"validation": ("L4-L5", "L5-S1")}
_LEVEL_SHARE = {"L4-L5": 1.0, "L5-S1": 1.0, "L3-L4": 0.25}
_T1_SHARE = 0.3
_T2_ALONE = ("validation", "stacks_second")
_RECESS_MIDDLE_MM = -2.25
"""Half way between mid-disc and pedicle top, along the disc normal: training stacks have three slices around it."""
_STACK_MM = (-11.0, 6.5)
"""Whole stacks cover this range along the disc normal, as reading does."""
_STACK_STEP_MM = (3.3, 5.2)
_CENTRE_JITTER_MM = 3.0
_PEOPLE_PER_SHARD = 20


def seeds_of(split: str, people: int) -> range:
    """Seeds of the first `people` persons of a split. ValueError where they would run into those of another split."""
    first = FIRST_SEED[split]
    following = min((other for other in FIRST_SEED.values() if other > first), default=None)
    if following is not None and first + people > following:
        raise ValueError(f"{people} persons of split {split!r} run into the seeds of another from {following} on")
    return range(first, first + people)


@dataclass(frozen=True)
class Crops:
    """Rendered cuts, one entry each: images and labels (N, H, W), anchors (N, 2) as (row, column) of the midline point of the
    unbulged posterior disc margin, affines (N, 4, 4) (slice, row, column) -> LPS mm, stack number, offset in mm along the disc
    normal, disc margin and normal in LPS, truth (N, len(TRUTH)), middle of the narrowest place of the left and right recess in LPS
    (N, 2, 3); rows run to the back, columns to the patient's left.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    anchors: NDArray[np.float64]
    affines: NDArray[np.float64]
    stacks: NDArray[np.int64]
    offsets: NDArray[np.float64]
    margins: NDArray[np.float64]
    normals: NDArray[np.float64]
    truth: NDArray[np.float64]
    recess_points: NDArray[np.float64]

    @property
    def pixel_mm(self) -> float:
        """Edge of a pixel."""
        return PIXEL_MM

    @property
    def seeds(self) -> NDArray[np.int64]:
        """Seed of the person behind every cut."""
        return np.asarray(self.stacks // 10)


TRUTH = (
    "left",
    "right",
    "left_bony",
    "right_bony",
    "sac_area",
    "sac_ap",
    "hernia_extent",
    "hernia_u",
    "hernia_type",
    "bulge",
)
"""Columns of `Crops.truth`: mm and mm2; no herniation has extent 0; types are numbered none, protrusion, extrusion, sequestration."""
TYPES = ("none", "protrusion", "extrusion", "sequestration")


def load_crops(folder: Path, *splits: Split) -> Crops:
    """All shards of some splits in one piece. FileNotFoundError where there is none of one of them."""
    paths = []
    for split in splits:
        found = sorted(folder.glob(f"{split}-*.npz"))
        if not found:
            raise FileNotFoundError(
                f"{folder}: no shard {split}-*.npz; render them: python -m training.datasets.axial_crops {folder}"
            )
        paths += found
    parts: list[dict[str, Any]] = [dict(np.load(path)) for path in paths]
    return Crops(**{field.name: np.concatenate([part[field.name] for part in parts]) for field in fields(Crops)})


def render_crops(folder: Path, split: Split, people: int, workers: int = 1) -> list[Path]:
    """Render shards of `people` simulated persons that are not there yet; returns all shards of the split."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = seeds_of(split, people)[::_PEOPLE_PER_SHARD]
    paths = [folder / f"{split}-{start}.npz" for start in starts]
    missing = [(path, split, start) for path, start in zip(paths, starts, strict=True) if not path.exists()]
    with ProcessPoolExecutor(max_workers=workers) as pool:
        list(pool.map(_shard, missing))
    return paths


def crops_of(split: str, seeds: Sequence[int], levels: tuple[str, ...] | None = None) -> Crops:
    """Render all cuts of some persons, planned as those of `split`; `levels` restricts the discs."""
    entries = [entry for seed in seeds for entry in _person(split, seed, levels or _LEVELS.get(split, _TAUGHT_LEVELS))]
    return Crops(**{field.name: np.stack([entry[field.name] for entry in entries]) for field in fields(Crops)})


def _shard(job: tuple[Path, str, int]) -> None:
    path, split, start = job
    crops = crops_of(split, range(start, start + _PEOPLE_PER_SHARD))
    arrays: dict[str, Any] = {field.name: getattr(crops, field.name) for field in fields(Crops)}
    temporary = path.with_name(path.stem + ".part.npz")
    np.savez_compressed(temporary, **arrays)
    temporary.replace(path)


def _person(split: str, seed: int, levels: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """All cuts of one simulated person."""
    from training.phantom import draw_anatomy, render_axial

    rng = np.random.default_rng([seed, 5])
    anatomy = draw_anatomy(seed)
    for number, level in enumerate(levels):
        if rng.random() > _LEVEL_SHARE[level]:
            continue
        tilt = "random" if rng.random() < 0.5 else "scanner"
        protocol = int(rng.integers(1 << 30))
        weighting = "t1" if split not in _T2_ALONE and rng.random() < _T1_SHARE else "t2"
        thickness = float(rng.uniform(3.0, 4.5))
        for offset in _offsets(split, rng):
            sample = render_axial(
                anatomy,
                level,
                weighting=weighting,  # type: ignore[arg-type]
                pixel_mm=PIXEL_MM,
                size=SIZE,
                seed=protocol,
                offset_mm=offset,
                thickness_mm=thickness,
                tilt=tilt,  # type: ignore[arg-type]
                centre_jitter_mm=_CENTRE_JITTER_MM,
            )
            yield _entry(sample, seed * 10 + number, offset)


def _offsets(split: str, rng: np.random.Generator) -> NDArray[np.float64]:
    step = float(rng.uniform(*_STACK_STEP_MM))
    if split == "train":
        return _RECESS_MIDDLE_MM + step * (rng.uniform(-0.5, 0.5) + np.array([-1.0, 0.0, 1.0]))
    return np.arange(_STACK_MM[0] + rng.uniform(0, step), _STACK_MM[1], step)


def _entry(sample: Any, stack: int, offset: float) -> dict[str, Any]:
    truth = sample.truth
    margin, normal = np.array(truth.posterior_margin_lps), np.array(truth.normal_lps)
    pixel = (np.linalg.inv(sample.affine) @ np.append(margin + offset * normal, 1.0))[1:3]
    top = float(np.percentile(sample.image, 99.8))
    hernia = truth.herniation
    values = (
        truth.left.recess_depth_soft_mm,
        truth.right.recess_depth_soft_mm,
        truth.left.recess_depth_bony_mm,
        truth.right.recess_depth_bony_mm,
        truth.sac_area_mm2,
        truth.sac_ap_mm,
        hernia.extent_mm if hernia else 0.0,
        hernia.u_mm if hernia else 0.0,
        TYPES.index(hernia.type) if hernia else 0,
        truth.bulge_mm,
    )
    return {
        "images": np.rint(np.clip(sample.image / max(top, 1e-6), 0, 1) * 255).astype(np.uint8),
        "labels": sample.labels,
        "anchors": pixel,
        "affines": sample.affine,
        "stacks": np.int64(stack),
        "offsets": np.float64(offset),
        "margins": margin,
        "normals": normal,
        "truth": np.array(values, dtype=np.float64),
        "recess_points": np.array([np.mean(truth.left.points_lps, axis=0), np.mean(truth.right.points_lps, axis=0)]),
    }


def main() -> None:
    """`python -m training.datasets.axial_crops FOLDER [--train 400] [--stacks 0] [--stacks-second 0] [--validation 120]`."""
    import argparse

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=400, help="simulated persons")
    parser.add_argument("--stacks", type=int, default=0, help="simulated persons of whole stacks")
    parser.add_argument(
        "--stacks-second", type=int, default=0, help="simulated persons of whole T2 stacks, others than those"
    )
    parser.add_argument("--validation", type=int, default=120, help="simulated persons")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    render_crops(given.folder, "validation", given.validation, given.workers)
    render_crops(given.folder, "train", given.train, given.workers)
    render_crops(given.folder, "stacks", given.stacks, given.workers)
    render_crops(given.folder, "stacks_second", given.stacks_second, given.workers)


if __name__ == "__main__":
    main()
