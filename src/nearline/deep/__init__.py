"""A torch network as the fixed effect: `pip install 'nearline[deep]'`; nothing else in nearline imports torch.

>>> from nearline import deep
>>> deep.DCN(cross_layers=2, rank=4)
DCN(cross_layers=2, rank=4, hidden=(64, 32), embedding=16)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nearline.deep import _torch
from nearline.deep._architecture import DCN, DLRM, MLP, Custom, InputShape, custom
from nearline.deep._information import Information
from nearline.deep._network_glmix import NetworkGLMix, load_model
from nearline.deep._optimiser import Optimiser
from nearline.deep._passes import Passes, Trained
from nearline.deep._prior import Laplace
from nearline.deep._recorded import RECORDED, sketch_field, sketch_of
from nearline.deep._rows import NetworkRows, rows_of

if TYPE_CHECKING:
    from nearline.deep._glmix import Calibration, DeepGLMix, Fitted
    from nearline.deep._inputs import Inputs
    from nearline.deep._network import Network
    from nearline.deep._trainer import Retrained, Window, retrain
    from nearline.deep._update import Updated

__all__ = [
    "DCN",
    "DLRM",
    "MLP",
    "RECORDED",
    "Calibration",
    "Custom",
    "DeepGLMix",
    "Fitted",
    "Information",
    "InputShape",
    "Inputs",
    "Laplace",
    "Network",
    "NetworkGLMix",
    "NetworkRows",
    "Optimiser",
    "Passes",
    "Retrained",
    "Trained",
    "Updated",
    "Window",
    "custom",
    "load_model",
    "retrain",
    "rows_of",
    "sketch_field",
    "sketch_of",
]

# What needs torch arrives when it is first used, so that a clear error can name the extra.
_HOMES = {
    "Calibration": "_glmix",
    "DeepGLMix": "_glmix",
    "Fitted": "_glmix",
    "Inputs": "_inputs",
    "Network": "_network",
    "Retrained": "_trainer",
    "Updated": "_update",
    "Window": "_trainer",
    "retrain": "_trainer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nearline.deep' has no attribute {name!r}")
    _torch.require()
    value = getattr(importlib.import_module(f"nearline.deep.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
