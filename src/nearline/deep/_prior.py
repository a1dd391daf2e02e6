"""Which quadratic prior the weights of a network have: settings only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nearline._errors import ConfigError


@dataclass(frozen=True, slots=True)
class Laplace:
    """A Gaussian over a network's weights: N(0, 1/λ) at first, a Laplace approximation after every update.

        H = λI + Σ_n w_n D_n J_n J_nᵀ,      J_n = ∂logit_n/∂θ   (generalised Gauss-Newton)

    Parameters
    ----------
    structure
        What is kept of H. ``"diagonal"``: one number per weight. ``"kronecker"``: A ⊗ G per linear layer, with A over
        its inputs and G over its outputs (K-FAC), and one number per weight of the embeddings. ``"last_layer"``: all
        of H over the last layer's weights; the others are features, which an update leaves as they are.
    precision
        λ, the base prior's precision.

    References
    ----------
    MacKay, Neural Computation 1992; Ritter et al., Online Structured Laplace Approximations (NeurIPS 2018).

    Examples
    --------
    >>> Laplace("kronecker").precision
    1.0
    """

    structure: Literal["diagonal", "kronecker", "last_layer"] = "diagonal"
    precision: float = 1.0

    def __post_init__(self) -> None:
        if self.structure not in ("diagonal", "kronecker", "last_layer"):
            raise ConfigError(f"Laplace(structure={self.structure!r}): use 'diagonal', 'kronecker' or 'last_layer'")
        if not 0 < self.precision < float("inf"):
            raise ConfigError(f"Laplace(precision=...) must be > 0, got {self.precision!r}")
