"""What each reader makes of a folder: refusal, volumes with their places, warnings told."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread

from dicom_io import read_outcomes
from dicom_io.errors import InputError
from dicom_io.study import Study
from inference.side_check import check_sides
from tests.corpus.truth import misplacement
from tests.differential.phantom import signal, sphere_errors

RIGHT_MM = 2.0  # as other readers are judged; recess must be right within 0.5 mm
RECESS_MM = 0.5
_LEAST_CORRELATION = 0.97
_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Cell:
    """One read: "ok", "refused", "wrong"; worst error in mm, and what was told."""

    result: str
    worst_mm: float = 0.0
    told: tuple[str, ...] = ()

    @property
    def silent(self) -> bool:
        return self.result == "wrong" and not self.told

    def __str__(self) -> str:
        codes = " ".join(self.told)
        if self.result == "refused":
            return "R" + (f" {codes}" if codes and codes != "!" else "")
        if self.result == "ok":
            return "ok" + ("!" if codes == "!" else f" {codes}" if codes else "")
        worst = f"{self.worst_mm:.0f}" if np.isfinite(self.worst_mm) else "lost"
        return f"{worst} {codes}" if codes not in ("", "!") else worst + codes


def by_recess(folder: Path, planes: bool) -> Cell:
    """Right, refused with a code, or right in part with a code for the rest."""
    try:
        outcomes = read_outcomes(folder)
    except InputError as error:
        return Cell("refused", 0.0, tuple(sorted({notice.code for notice in error.notices} or {error.code})))
    studies = [outcome for outcome in outcomes if isinstance(outcome, Study)]
    if not studies:
        refusals = [error for error in outcomes if isinstance(error, InputError)]
        reasons = {notice.code for error in refusals for notice in error.notices} or {error.code for error in refusals}
        return Cell("refused", 0.0, tuple(sorted(reasons)))
    codes: set[str] = set()
    worst = 0.0
    for study in studies:
        codes |= {notice.code for notice in (*study.excluded, *study.warnings)}
        codes |= {notice.code for stack in study.stacks for notice in stack.warnings}
        withheld = False
        if planes:
            check = check_sides(
                study.with_role("sagittal_t2")[0].volume, [stack.volume for stack in study.with_role("axial_t2")]
            )
            withheld = check.conflict or check.turned or check.spacing_swapped
            codes |= {"SIDE_CONFLICT"} if check.conflict else {"PLANES_DISAGREE"} if withheld else set()
            codes |= set() if withheld or check.verified else {"SIDE_UNVERIFIED"}
        stacks = [stack for stack in study.stacks if stack.role not in ("localizer", "other")]
        if "FOR_MISMATCH" in codes:  # what lies in another frame of reference is placed in that frame only
            stacks = [s for s in stacks if s.volume.frame_of_reference_uid == stacks[0].volume.frame_of_reference_uid]
        for stack in stacks:
            if not withheld:
                worst = max(worst, misplacement(stack.volume, signal, every=1, least=_LEAST_CORRELATION))
    return Cell("ok" if worst <= RECESS_MM else "wrong", worst, tuple(sorted(codes)))


def by_simpleitk(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """The documented recipe: the series found first, its files in the order that GDCM gives."""
    import SimpleITK

    reader = SimpleITK.ImageSeriesReader()
    volumes = []
    for series in reader.GetGDCMSeriesIDs(str(folder))[:1]:
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), series))
        image = reader.Execute()
        direction = np.array(image.GetDirection()).reshape(image.GetDimension(), -1)
        if image.GetDimension() != 3:
            raise ValueError("not three-dimensional")
        affine = np.eye(4)
        affine[:3, :3] = direction * np.array(image.GetSpacing())
        affine[:3, 3] = image.GetOrigin()
        volumes.append((np.transpose(SimpleITK.GetArrayFromImage(image), (2, 1, 0)), affine))
    return volumes


def _by_monai(folder: Path, reader: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    array, meta = reader.get_data(reader.read(str(folder)))
    array = np.asarray(array)
    if array.ndim != 3:
        raise ValueError("not three-dimensional")
    return [(array, _RAS @ np.asarray(meta["affine"], dtype=float))]


def by_itkreader(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """MONAI's ITKReader on the folder."""
    from monai.data import ITKReader

    return _by_monai(folder, ITKReader())


def by_pydicomreader(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """MONAI's PydicomReader on the folder."""
    from monai.data import PydicomReader

    return _by_monai(folder, PydicomReader())


def by_highdicom(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """highdicom's volume of the series, or of the one multi-frame object."""
    import highdicom as hd

    datasets = [dcmread(path) for path in sorted(folder.iterdir())]
    if len(datasets) == 1 and "NumberOfFrames" in datasets[0]:
        volume = hd.Image.from_dataset(datasets[0]).get_volume()
    else:
        volume = hd.get_volume_from_series(datasets)
    return [(np.asarray(volume.array), np.asarray(volume.affine))]


GENERAL: dict[str, Callable[[Path], list[tuple[np.ndarray, np.ndarray]]]] = {
    "SimpleITK": by_simpleitk,
    "MONAI ITKReader": by_itkreader,
    "MONAI PydicomReader": by_pydicomreader,
    "highdicom": by_highdicom,
}


def by_general(name: str, folder: Path) -> Cell:
    """Worst error of the spheres; wrong beyond 2 mm, with "!" told when it warned."""
    with _listening() as said, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            volumes = GENERAL[name](folder)
        except Exception:  # whatever a reader raises is its refusal
            return Cell("refused")
        if not volumes:
            return Cell("refused")
        told = ("!",) if caught or said() else ()
    worst = max(max(sphere_errors(array, affine).values()) for array, affine in volumes)
    return Cell("ok" if worst <= RIGHT_MM else "wrong", worst, told)


@contextmanager
def _listening() -> Iterator[Callable[[], bool]]:
    """Catches what native libraries write to standard error."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as heard:
        os.dup2(heard.fileno(), 2)
        try:
            yield lambda: os.fstat(heard.fileno()).st_size > 0
        finally:
            os.dup2(kept, 2)
            with suppress(OSError):
                os.close(kept)
