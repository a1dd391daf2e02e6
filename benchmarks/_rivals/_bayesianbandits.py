"""bayesianbandits: `BayesianGLM(link="logit")`, one Laplace update per entity on dense arrays, full precision.

`steps` is its number of Newton steps: 5 is its default and reaches the mode, 1 is its fast setting and does not.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from benchmarks._report import clock
from benchmarks._rivals._entities import Fitted, Floats, Task


def fit(task: Task, steps: int = 5) -> Fitted:
    """One update per entity from the prior N(0, I).

    It takes arrays as they are, so the conversion is the making of the estimators, and nothing else is documented.
    """
    conversion, models = clock(lambda: [_model(steps) for _ in range(task.entities)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own notice that the steps ran out
        update, fitted = clock(lambda: [m.partial_fit(x, y) for m, x, y in zip(models, task.x, task.label)])
    theta = np.stack([m.coef_ for m in fitted])
    hessian = np.stack([_symmetric(m.cov_inv_) for m in fitted])
    return Fitted(theta, hessian, task.x.shape[1], update, conversion, conversion)


def _model(steps: int) -> Any:
    from bayesianbandits import BayesianGLM, LaplaceApproximator

    return BayesianGLM(alpha=1.0, link="logit", approximator=LaplaceApproximator(n_iter=steps))


def _symmetric(upper: Floats) -> Floats:
    """It keeps the upper triangle of the precision only."""
    return np.triu(upper) + np.triu(upper, 1).T
