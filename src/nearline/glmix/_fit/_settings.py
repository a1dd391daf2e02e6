"""What a user asks of a batch fit, effect by effect: `Fixed(fit=FixedFit(...))`, `Random(fit=RandomFit(...))`.

A stream takes no notice of these: they say how history is fitted, not what is believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nearline._errors import ConfigError

Normalise = Literal["none", "unit_sd", "max_magnitude", "standardise"]
Variances = Literal["auto", "none", "diagonal", "exact"]
Interval = tuple[float, float]

NORMALISATIONS = ("none", "unit_sd", "max_magnitude", "standardise")
VARIANCES = ("auto", "none", "diagonal", "exact")


@dataclass(frozen=True, slots=True)
class FixedFit:
    """How a batch fit treats the fixed effect.

        min_b Σ_n w_n ℓ(y_n, x_nᵀb + o_n) + ½ (b − μ0)ᵀ Λ0 (b − μ0) + Σ_j λ_j |b_j|,    low_j ≤ b_j ≤ high_j

    Parameters
    ----------
    l1
        Weight λ of the L1 penalty, one number or by column. A number spares the intercept, as does ``"*"``. The prior
        takes the place of the L2 part: both together are the elastic net.
    bounds
        Box (low, high) of the coefficients, by column, ``"*"`` for the rest; the intercept only by its name.
    normalise
        Scale in which the solver works: ``"unit_sd"``, ``"max_magnitude"``, or ``"standardise"`` (centred, unit sd).
        Priors, penalties and bounds stay those of the raw features and are mapped along, and the coefficients back: the
        optimum and its variances do not depend on it, only how soon they are reached.
    negatives
        Share ρ of the rows with label 0 that are kept, with their weights divided by ρ (logit link).
    seed
        Of the hash that draws them.
    variances
        ``"exact"`` is diag(H⁻¹) of the whole precision H (up to 5,000 coefficients), ``"diagonal"`` 1/H_jj, which is
        never more, ``"none"`` leaves the prior's. ``"auto"`` is exact for full and low-rank posteriors (there up to
        5,000 coefficients) and diagonal for the others.
    tolerance
        Stop where gᵀH⁻¹g, the squared distance to the mode in posterior standard deviations, is no more than this; by
        default 1e-12 up to 2,000 coefficients, 1e-6 beyond.

    Examples
    --------
    >>> FixedFit(l1=0.5, bounds={"price": (-10.0, 0.0)}).l1_of("price")
    0.5
    """

    l1: float | Mapping[str, float] = 0.0
    bounds: Mapping[str, Interval] = field(default_factory=dict)
    normalise: Normalise = "none"
    negatives: float = 1.0
    seed: int = 0
    variances: Variances = "auto"
    tolerance: float | None = None

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("normalise", self.normalise, NORMALISATIONS), ("variances", self.variances, VARIANCES),
        ):  # fmt: skip
            if value not in allowed:
                raise ConfigError(f"FixedFit({name}=...) is one of {', '.join(map(repr, allowed))}, got {value!r}")
        for number in self.l1.values() if isinstance(self.l1, Mapping) else [self.l1]:
            if not 0 <= number < float("inf"):
                raise ConfigError(f"FixedFit(l1=...) must be >= 0 and finite, got {number!r}")
        for column, (low, high) in self.bounds.items():
            if not low <= high:
                raise ConfigError(f"FixedFit(bounds=...) of {column!r} is ({low!r}, {high!r}); low must be <= high")
        if not 0 < self.negatives <= 1:
            raise ConfigError(f"FixedFit(negatives=...) is a share in (0, 1], got {self.negatives!r}")
        if self.tolerance is not None and not self.tolerance > 0:
            raise ConfigError(f"FixedFit(tolerance=...) must be > 0, got {self.tolerance!r}")

    @classmethod
    def of(cls, written: Mapping[str, Any]) -> FixedFit:
        """Settings as a file has them, in which a box is a list.

        Examples
        --------
        >>> FixedFit.of({"bounds": {"price": [-1.0, 0.0]}}).bounds
        {'price': (-1.0, 0.0)}
        """
        boxes = {column: (box[0], box[1]) for column, box in dict(written.get("bounds", {})).items()}
        return cls(**{**written, "bounds": boxes})

    def l1_of(self, column: str) -> float:
        """Penalty weight of a coefficient on `column`."""
        if isinstance(self.l1, Mapping):
            return self.l1.get(column, 0.0 if column == "(intercept)" else self.l1.get("*", 0.0))
        return 0.0 if column == "(intercept)" else self.l1

    def bounds_of(self, column: str) -> Interval:
        """Box of a coefficient on `column`."""
        everything = (-float("inf"), float("inf"))
        return self.bounds.get(column, everything if column == "(intercept)" else self.bounds.get("*", everything))

    @property
    def columns(self) -> set[str]:
        """Columns that a setting names."""
        named = {*self.bounds, *(self.l1 if isinstance(self.l1, Mapping) else ())}
        return named - {"*"}

    @property
    def smooth(self) -> bool:
        """Whether there is neither an L1 penalty nor a bound."""
        return not self.bounds and not (any(self.l1.values()) if isinstance(self.l1, Mapping) else self.l1)

    @property
    def plain(self) -> bool:
        """Whether only a prior and a likelihood meet, in the raw scale, to the accuracy of every other block."""
        return self.smooth and self.normalise == "none" and self.variances == "auto" and self.tolerance is None


@dataclass(frozen=True, slots=True)
class RandomFit:
    """How a batch fit treats the entities of a random effect.

    Parameters
    ----------
    least_rows
        An entity with fewer rows gets no new model: it stays at the prior. One that has learned before keeps what it
        knows.
    most_rows
        An entity with more rows is fitted to so many of them, drawn by hash; their weights grow in proportion, so that
        the total stays. The rows left out are scored (passive), not learned from.
    features_per_row
        An entity with n rows has coefficients on at most ⌈features_per_row · n⌉ features, those of the largest
        |Pearson correlation| with its labels, beside the intercept; the others stay at the prior.
    seed
        Of the hash that draws rows.

    Examples
    --------
    >>> RandomFit(most_rows=1_000).least_rows
    1
    """

    least_rows: int = 1
    most_rows: int | None = None
    features_per_row: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.least_rows < 1:
            raise ConfigError(f"RandomFit(least_rows=...) must be at least 1, got {self.least_rows!r}")
        if self.most_rows is not None and self.most_rows < self.least_rows:
            raise ConfigError(f"RandomFit(most_rows=...) must be at least least_rows, got {self.most_rows!r}")
        if self.features_per_row is not None and not self.features_per_row > 0:
            raise ConfigError(f"RandomFit(features_per_row=...) must be > 0, got {self.features_per_row!r}")
