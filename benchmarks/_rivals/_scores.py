"""What one pass of a rival over the stream leaves: its progressive predictions and its seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Probabilities p (n), each made before its own label was learned, and what the pass cost.

    `seconds` is the pass itself; `conversion` is what the rival's own input format took to build from columns in
    memory, where that is not already inside `seconds`. `reported` is the progressive log loss that the rival summed by
    itself, where it does.
    """

    probability: Floats
    seconds: float
    conversion: float = 0.0
    reported: float = math.inf

    @property
    def rate(self) -> float:
        """Events per second of the pass, conversion left out."""
        return len(self.probability) / self.seconds

    def log_loss(self, label: Floats) -> float:
        """Mean negative log likelihood, nats, p kept 1e-15 away from 0 and 1; or `reported` where that is lower."""
        p = np.clip(self.probability, 1e-15, 1 - 1e-15)
        y = label[: len(p)]
        return min(float(-np.mean(y * np.log(p) + (1 - y) * np.log1p(-p))), self.reported)

    def auc(self, label: Floats) -> float:
        """Area under the ROC curve, by scikit-learn: a judge that belongs to neither side."""
        from sklearn.metrics import roc_auc_score

        return float(roc_auc_score(label[: len(self.probability)], self.probability))


def sigmoid(margin: Floats) -> Floats:
    """1 / (1 + exp(−z)) without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * margin)), dtype=np.float64)
