"""How much of a network rests on a row: known from how often its values were trained on, at no forward pass.

    ℓ_i = D/k + Σ_j x_ij² (1 + N) / (1 + M_j),    N = Σ_t ω_t,    M_j = Σ_t ω_t x_tj²,

over the embedded values j of row i and the rows t trained on before, with weights ω; x_ij is the weight of value j in
its field's mean (1 where the field has one value), an embedding has k numbers, the layers have D. It is the diagonal of
X (XᵀΩX / N)⁻¹ Xᵀ for one-hot columns, each counted k times, and the layers' D weights once: a rare value's embedding
learns from few rows, and these are worth more than their gradient's norm says; M_j = 0 for a value without a slot. It
is ours, after the optimal subsampling of logistic regressions (Wang, Zhu and Ma, JASA 2018), where errors are
multiplied by a norm under the inverse information.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from nearline._errors import ConfigError
from nearline.deep._inputs import Bags, Values

Floats = NDArray[np.float64]


class Exposure:
    """What training has seen of every embedded value: N in `rows`, and M_j in `mass`.

    Examples
    --------
    Two rows of one field, with values 0 and 1; the first counts three times:

    >>> empty, one = torch.zeros(2, 0), torch.ones(2)
    >>> bags = Bags(empty, torch.tensor([0, 1]), torch.tensor([0, 1, 2]), one, {}, 1)
    >>> exposure = Exposure(2)
    >>> exposure.count(bags, torch.tensor([3.0, 1.0]))
    >>> values = Values(np.array([0, 1]), np.array([0, 1]), np.ones(2), np.array([[0.0], [0.0], [1.0]]))
    >>> exposure.leverage(values, np.array([True]), layers=2.0).tolist()     # 2 + 5/4, 2 + 5/2; 2 + 5 of a new value
    [3.25, 4.5, 7.0]
    """

    def __init__(self, slots: int) -> None:
        self.rows, self.mass = torch.zeros((), dtype=torch.float64), torch.zeros(slots, dtype=torch.float64)

    def grow(self, slots: int) -> None:
        """Make room for slots below `slots`, which nothing was seen of."""
        more = torch.zeros(max(slots - len(self.mass), 0), dtype=torch.float64)
        self.mass = torch.cat([self.mass, more])

    def count(self, bags: Bags, weight: torch.Tensor) -> None:
        """Rows (n) that were trained on, with their weights (n)."""
        sizes = bags.offsets.cpu().diff()
        row = torch.repeat_interleave(torch.arange(len(sizes)), sizes) // max(bags.fields, 1)
        square = bags.weights.cpu().double().square() * weight.detach().cpu().double()[row]
        self.mass.index_add_(0, bags.slots.cpu(), square)
        self.rows += weight.detach().cpu().double().sum()

    def leverage(self, values: Values, counted: NDArray[np.bool_], layers: float) -> Floats:
        """ℓ (n), of the fields (F) that are `counted`; `layers` is D/k."""
        share = values.square / (1.0 + self.mass.numpy()[values.slot])
        found = np.bincount(values.bag, share, minlength=values.new.size).reshape(values.new.shape) + values.new
        return np.asarray(layers + (1.0 + float(self.rows)) * found[:, counted].sum(axis=1), np.float64)


def counted(fields: Sequence[str], columns: Sequence[str]) -> NDArray[np.bool_]:
    """Which fields are among `columns`; a ConfigError names columns that are no fields."""
    unknown = sorted(set(columns) - set(fields))
    if unknown:
        raise ConfigError(f"leverage = {unknown}: the network does not embed them; it embeds {list(fields)}")
    return np.array([name in columns for name in fields], np.bool_)
