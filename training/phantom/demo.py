"""The embedded default of `make demo`: a simulated person with a foot drop, as a DICOM study and an examination.

The examination shows an L5 pattern on the side of the simulated L4-L5 herniation; everything in it is invented.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from training.phantom.anatomy import draw_anatomy
from training.phantom.study import render_study
from training.phantom.truth import level_truth

SEED = 9_500_182
"""A person with one clear subarticular herniation at L4-L5, and a sac small amid its fat at L5-S1; no seed of training or evaluation."""

_EXAM = """\
# A simulated examination: foot drop of ten days with an L5 pattern on the {side}. A key that is absent was not examined.
exam:
  general:
    pt.age: {age}
    time.onset_days: 10
    time.course: stable
    pain.back_nrs: 4
    attest.safety_negative: true
  {side}:
    mrc.tibialis_anterior: "3"
    mrc.extensor_hallucis_longus: "2"
    mrc.tibialis_posterior: "4"
    mrc.gluteus_medius: "4"
    mrc.quadriceps: "5"
    mrc.gastrocnemius: "5"
    fn.heel_walk: unable
    sen.L4: normal
    sen.L5: reduced
    sen.S1: normal
    ref.patellar: 2
    ref.achilles: 2
    ten.slr_deg: 40
    pain.leg_nrs: 6
    pain.distribution: [L5]
  {other}:
    attest.remaining_normal: [all]
"""


def write_demo(out: Path, seed: int = SEED) -> None:
    """Write `dicom/` and `exam.yaml` into `out`, replacing what an earlier run left there.

    Raises ValueError when the simulated person of `seed` has no one-sided herniation at L4-L5.
    """
    anatomy = draw_anatomy(seed)
    herniation = level_truth(anatomy, "L4-L5").herniation
    if herniation is None or herniation.side not in ("left", "right"):
        raise ValueError(f"seed {seed}: no one-sided herniation at L4-L5, so the examination has no side")
    shutil.rmtree(out / "dicom", ignore_errors=True)
    (out / "dicom").mkdir(parents=True)
    render_study(anatomy, out / "dicom", seed=seed, protocol="angled", with_truth=False)
    other = "left" if herniation.side == "right" else "right"
    exam = _EXAM.format(side=herniation.side, other=other, age=int(anatomy.age))
    (out / "exam.yaml").write_text(exam, encoding="utf-8")


def main() -> None:
    """Command line: `python -m training.phantom.demo --out FOLDER`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    write_demo(options.out, options.seed)


if __name__ == "__main__":
    main()
