"""nearline keeps a served model fresh: per-entity Bayesian updates from a stream, in event order, without losing one.

>>> import nearline as nl
>>> model = nl.GLMix(nl.Schema(label="clicked"), fixed=nl.Fixed("hour"), random=[nl.Random("ad_id")])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nearline import datasets, deep, evaluate, select, simulate
    from nearline._errors import ConfigError, DataError, NearlineError, NearlineWarning, StateError
    from nearline.glmix import Fixed, FixedFit, Forgetting, GLMix, Loadings, Prior, Random, RandomFit
    from nearline.schema import Categorical, Hashed, Multi, Numeric, Schema, Vector

__version__ = "0.1.0"

__all__ = [
    "Categorical",
    "ConfigError",
    "DataError",
    "Fixed",
    "FixedFit",
    "Forgetting",
    "GLMix",
    "Hashed",
    "Loadings",
    "Multi",
    "NearlineError",
    "NearlineWarning",
    "Numeric",
    "Prior",
    "Random",
    "RandomFit",
    "Schema",
    "StateError",
    "Vector",
    "datasets",
    "deep",
    "evaluate",
    "select",
    "simulate",
]

# Names arrive when they are first used, so that `import nearline` costs a service or a command next to nothing.
_HOMES = {
    "nearline.glmix": (
        "Fixed",
        "FixedFit",
        "Forgetting",
        "GLMix",
        "Loadings",
        "Prior",
        "Random",
        "RandomFit",
    ),
    "nearline.schema": ("Categorical", "Hashed", "Multi", "Numeric", "Schema", "Vector"),
    "nearline._errors": ("ConfigError", "DataError", "NearlineError", "NearlineWarning", "StateError"),
}
_ROOMS = ("datasets", "deep", "evaluate", "select", "simulate")


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"nearline.{name}")
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(importlib.import_module(home), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'nearline' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
