"""Looks for letters burned into a picture with a trained text detector: RapidOCR, whose PP-OCR model comes with its package.

Only whether there are letters is asked. Nothing is recognised, and nothing but yes or no leaves this module. The package is an
optional part (`pip install recess[deidentify]`), since only exports need it.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.loader import limits


class TextDetectorMissing(RuntimeError):  # noqa: N818 (the name says what happened)
    """The text detector is not installed; the text says how to get it."""


def has_lettering(stored: NDArray[np.integer[Any]]) -> bool:
    """Whether letters are seen in a picture (rows, columns) of stored values. Raises TextDetectorMissing."""
    return any(_seen(view) for view in _views(stored))


def check_installed() -> None:
    """Raise TextDetectorMissing where the detector cannot be used."""
    _detector()


def _views(stored: NDArray[np.integer[Any]]) -> list[NDArray[np.uint8]]:
    """The picture as it is usually shown, and over its whole range where a few values lie far above the rest, as letters do."""
    bounds = limits().scope
    low, top = (float(value) for value in np.percentile(stored, bounds.text_window_percentiles))
    highest = float(stored.max())
    views = [_grey(stored, low, top)]
    if highest > low + bounds.text_far_above * (top - low):
        views.append(_grey(stored, low, highest))
    return views


def _grey(stored: NDArray[np.integer[Any]], low: float, top: float) -> NDArray[np.uint8]:
    scaled = (stored.astype(np.float32) - low) * (255.0 / max(top - low, 1.0))
    return np.asarray(np.clip(scaled, 0, 255), dtype=np.uint8)


def _seen(view: NDArray[np.uint8]) -> bool:
    found = _detector()(np.stack([view] * 3, axis=-1), use_det=True, use_cls=False, use_rec=False)
    return found.boxes is not None and len(found.boxes) > 0


@cache
def _detector() -> Any:
    try:
        from rapidocr import RapidOCR
    except ImportError as error:
        raise TextDetectorMissing("the text detector is not installed: pip install 'recess[deidentify]'") from error
    threads = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
    return RapidOCR(params={"Global.log_level": logging.getLevelName(logging.CRITICAL).lower(), **threads})
