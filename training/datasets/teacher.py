"""Labels for whole sagittal slices from a network taught on slabs: kept only where the column found is plausible.

What lies away from the column is background; what the network was unsure of near it takes no part in training.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file
from scipy import ndimage

from configs import anatomy
from inference.column import Column, column_faults, find_column
from models.networks import build
from models.runtime import Segmenter
from models.weights import Card
from training.datasets import IGNORE
from training.recipes import load_recipe

_SURE = 0.75
"""Below this highest class probability a pixel near the column is left unlabelled."""
_REACH_MM = 9.0
"""Vertebra farther than this from every disc and from the canal is not part of the column."""


def load_teacher(run: Path) -> Segmenter:
    """The network of a run folder that bears the name of its recipe. FileNotFoundError, ConfigError."""
    recipe = load_recipe(run.name)
    path = run / "best.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: the teacher's weights are missing; run `recess-train fit {run.name}` first")
    network = build(recipe.network)
    network.load_state_dict({key: value.float() for key, value in load_file(str(path)).items()})
    card = Card(
        name=run.name,
        network=recipe.network,
        input=recipe.input,
        classes=recipe.classes,
        trained_on="slabs",
        recipe=run.name,
        command="",
    )
    return Segmenter.of(card, network)


def label_whole_slice(teacher: Segmenter, image: NDArray[np.float32], discs: int) -> NDArray[np.int16] | None:
    """Class numbers (rows, columns) for a normalised upright slice, IGNORE where unsure.

    None unless the column found is plausible and has as many discs as the publisher counted.
    """
    probabilities = teacher.plane_probabilities(image[None])[0]
    label_map = probabilities.argmax(axis=0)
    column = find_column(label_map, teacher.spacing_mm)
    if column is None or column_faults(column) or column.gaps or len(column.discs) != discs:
        return None
    return _only_the_column(label_map, probabilities.max(axis=0), column)


def _only_the_column(label_map: NDArray[np.integer], sure: NDArray[np.float32], column: Column) -> NDArray[np.int16]:
    labels = anatomy().sagittal
    discs = np.any([disc.mask for disc in column.discs], axis=0)
    near = ndimage.distance_transform_edt(~(discs | column.canal)) * column.spacing_mm <= _REACH_MM
    components, _ = ndimage.label(label_map == labels.value("vertebra"))
    touching = np.setdiff1d(np.unique(components[near]), [0])
    vertebra = np.isin(components, touching)
    target = np.zeros(label_map.shape, dtype=np.int16)
    target[vertebra] = labels.value("vertebra")
    target[column.canal] = labels.value("canal")
    target[discs] = labels.value("disc")
    target[near & (sure < _SURE)] = IGNORE
    return target
