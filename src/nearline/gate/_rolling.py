"""The last examples, scored by each model, and the metrics over them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nearline.evaluate import auc
from nearline.glmix._links import Link

Floats = NDArray[np.float64]

MODELS = ("live", "stale", "fixed")
_COLUMNS = ("label", *MODELS, "weight")
_MOST = float(np.finfo(np.float32).max)


class Rolling:
    """A ring of `window` examples: label, margin by each model, weight; float32, so that it is small on disk."""

    def __init__(self, window: int) -> None:
        self._ring = np.zeros((len(_COLUMNS), window), np.float32)
        self._seen = 0

    def __len__(self) -> int:
        return min(self._seen, self._ring.shape[1])

    def add(self, label: Floats, margins: Floats, weight: Floats) -> None:
        """Take examples (n) with margins (3, n); those without finite margins by all models are left out."""
        rows = np.vstack([label, margins, weight])[:, np.isfinite(margins).all(axis=0)].clip(-_MOST, _MOST)
        width = self._ring.shape[1]
        kept = rows[:, -width:]
        first = self._seen + rows.shape[1] - kept.shape[1]
        self._ring[:, (first + np.arange(kept.shape[1])) % width] = kept
        self._seen += rows.shape[1]

    def metrics(self, link: Link) -> dict[str, dict[str, float]]:
        """log_loss, auc and calibration (mean prediction over mean label) of each model; NaN where undefined."""
        label, *margins, weight = self._ring[:, : len(self)].astype(np.float64)
        return {name: _metrics(link, label, margin, weight) for name, margin in zip(MODELS, margins)}

    def flips(self, cut: float) -> float:
        """Share of weight where live is wrong and stale was right; positive is a margin above `cut`."""
        label, live, stale, _, weight = self._ring[:, : len(self)].astype(np.float64)
        wrong, right = (live > cut) != (label > 0.5), (stale > cut) == (label > 0.5)
        return _ratio(float(weight[wrong & right].sum()), float(weight.sum()))

    def state(self) -> dict[str, Any]:
        """All it remembers, for JSON: the ring as base64 of little-endian float32."""
        held = self._ring[:, : len(self)].astype("<f4")
        return {"seen": self._seen, "ring": base64.b64encode(held.tobytes()).decode("ascii")}

    @classmethod
    def load(cls, window: int, state: Mapping[str, Any]) -> Self:
        """The ring that gave this state."""
        rolling = cls(window)
        rolling._seen = state["seen"]
        held = np.frombuffer(base64.b64decode(state["ring"]), "<f4").reshape(len(_COLUMNS), -1)
        rolling._ring[:, : held.shape[1]] = held
        return rolling


def _metrics(link: Link, label: Floats, margin: Floats, weight: Floats) -> dict[str, float]:
    mean, total = link.mean(margin), float(weight.sum())
    return {
        "log_loss": _ratio(float(weight @ link.loss(label, margin)), total),
        "auc": auc(label, margin, weight) if link.name == "logit" else float("nan"),
        "calibration": _ratio(float(weight @ mean), float(weight @ label)),
    }


def _ratio(above: float, below: float) -> float:
    return above / below if below else float("nan")
