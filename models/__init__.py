"""Networks, weights, runtimes and calibration: arrays in, arrays out. Knows no DICOM, no patient, no side and no level.

Every shipped network is a pair: `cards/<name>.json` (what it is, what it learned from) and `weights/<name>.safetensors`.
"""

from models.calibration import LogisticHead
from models.intensity import InputSpec, normalise
from models.networks import NetworkSpec
from models.runtime import DeviceUnavailableError, Segmenter
from models.weights import Card, WeightsError, load_card, model_names

__all__ = [
    "Card",
    "DeviceUnavailableError",
    "InputSpec",
    "LogisticHead",
    "NetworkSpec",
    "Segmenter",
    "WeightsError",
    "load_card",
    "model_names",
    "normalise",
]
