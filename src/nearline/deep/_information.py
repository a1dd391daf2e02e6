"""What a network leaves behind of a forward pass, so that any later label can be priced without another one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearline._errors import ConfigError, DataError
from nearline.glmix import _links

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Information:
    """Recorded information of n predictions; from it and a label follow loss, error, gradient norm and sketch.

    Attributes
    ----------
    logit
        Margin η (n), offset included: what `decision_function` returns.
    norm
        H = √(‖h‖² + 1) (n), h the input of the last layer: ‖∂ℓ/∂(last layer)‖ = |∂ℓ/∂η| H.
    codes, scale
        Sketch t_k = v_kᵀ[h; 1] with random signs v_k, as int8 (n, K) times float16 (n); None unless asked for.
    link
        The network's link.

    Examples
    --------
    >>> recorded = Information(np.array([0.0]), np.array([2.0]), None, None, "logit")
    >>> recorded.loss([1.0]).round(4).tolist(), recorded.score([1.0]).tolist()
    ([0.6931], [1.0])
    """

    logit: Floats
    norm: Floats
    codes: NDArray[np.int8] | None
    scale: NDArray[np.float16] | None
    link: str

    def loss(self, label: ArrayLike) -> Floats:
        """Loss (n) of labels under the recorded margins."""
        return _links.by_name(self.link).loss(self._labels(label), self.logit)

    def error(self, label: ArrayLike) -> Floats:
        """Signed error ∂ℓ/∂η (n): prediction − label."""
        return _links.by_name(self.link).gradient(self._labels(label), self.logit)

    def score(self, label: ArrayLike) -> Floats:
        """Norm (n) of the gradient of the last layer, |∂ℓ/∂η| H."""
        return np.asarray(np.abs(self.error(label)) * self.norm, np.float64)

    def sketch(self, label: ArrayLike) -> Floats:
        """Sketch (n, K) of the gradient of the last layer, (∂ℓ/∂η) t_k; mean products estimate inner products."""
        if self.codes is None or self.scale is None:
            raise ConfigError("no sketch was recorded; ask for one with information(table, sketch=16)")
        t = self.codes * self.scale.astype(np.float64)[:, None]
        return np.asarray(self.error(label)[:, None] * t, np.float64)

    def _labels(self, label: ArrayLike) -> Floats:
        found = _links.by_name(self.link).labels(label)
        if found.shape != self.logit.shape:
            raise DataError(f"{found.shape} labels for {self.logit.shape} predictions", fix="give one per prediction")
        return found


def signs(seed: int, sketch: int, width: int) -> Floats:
    """The random signs v (width + 1, K) of a network's sketch: always the same for a seed."""
    drawn = np.random.default_rng([seed, 0x5EED]).integers(0, 2, (sketch, width + 1))
    return (2 * drawn.T - 1).astype(np.float64)


def quantised(t: Floats) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Sketch (n, K) as int8 codes and one float16 scale per row.

    Examples
    --------
    >>> codes, scale = quantised(np.array([[1.0, -0.5]]))
    >>> (codes * scale[:, None]).round(2).tolist()
    [[1.0, -0.5]]
    """
    largest = np.abs(t).max(axis=1, initial=0.0)
    scale = np.nextafter((largest / 127).astype(np.float16), np.float16(np.inf))
    return np.rint(t / scale[:, None].astype(np.float64)).astype(np.int8), scale
