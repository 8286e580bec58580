"""A simulated lumbar spine: continuous anatomy and disease, exact truth in millimetres, MR pictures and DICOM studies of it.

Numbers: configs/training/phantom.toml and the table of tissues in scanner.py.
"""

from training.phantom.anatomy import Anatomy, draw_anatomy
from training.phantom.render import AxialSample, render_axial
from training.phantom.study import StudyTruth, render_study, study_files
from training.phantom.truth import LevelTruth, level_truth

__all__ = [
    "Anatomy",
    "AxialSample",
    "LevelTruth",
    "StudyTruth",
    "draw_anatomy",
    "level_truth",
    "render_axial",
    "render_study",
    "study_files",
]
