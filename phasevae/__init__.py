"""phasevae: posterior collapse of variational autoencoders, predicted and measured as a phase transition.

`import phasevae` imports no torch: the names of `_LAZY` are resolved when they are first used.
"""

from __future__ import annotations

import importlib
from typing import Any

from phasevae.errors import InputError

__version__ = "0.1.0"
__all__ = [
    "CollapseMonitor",
    "InputError",
    "__version__",
    "compute_spectrum",
    "diagnose",
    "diagnosis_page",
    "load",
    "predict",
    "prediction_page",
    "sweep",
]

_LAZY = {
    "CollapseMonitor": "phasevae.prediction.monitor",
    "compute_spectrum": "phasevae.spectrum.measure",
    "diagnose": "phasevae.diagnosis.diagnose",
    "diagnosis_page": "phasevae.figures.diagnosis_report",
    "load": "phasevae.stored",
    "predict": "phasevae.prediction.predict",
    "prediction_page": "phasevae.figures.prediction_report",
    "sweep": "phasevae.own_sweep",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'phasevae' has no attribute '{name}'")
