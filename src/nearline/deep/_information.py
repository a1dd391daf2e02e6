"""What a network leaves behind of a forward pass, so that any later label can be priced without another one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearline._errors import ConfigError, DataError
from nearline.glmix import _links
from nearline.select import Scores, sketch_gradients

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
        return sketch_gradients(self.error(label), self.codes * self.scale.astype(np.float64)[:, None])

    def scores(self, label: ArrayLike, **more: Any) -> Scores:
        """All that a selector can go by, priced; `more` are further columns of `Scores`, such as age, lag or slice."""
        sketch = {} if self.codes is None else {"sketch": self.sketch(label)}
        return Scores(
            loss=self.loss(label), error=self.error(label), score=self.score(label), label=label, **sketch, **more
        )

    def _labels(self, label: ArrayLike) -> Floats:
        found = _links.by_name(self.link).labels(label)
        if found.shape != self.logit.shape:
            raise DataError(f"{found.shape} labels for {self.logit.shape} predictions", fix="give one per prediction")
        return found
