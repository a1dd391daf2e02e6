"""What a model says of rows, learning nothing: scores, probabilities, draws, intervals, explanations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nearline._errors import ConfigError
from nearline.glmix import _links, _posterior, _replay

if TYPE_CHECKING:
    from nearline.features import Design, Encoder
    from nearline.glmix._state import Block
    from nearline.schema import Rejects

Floats = NDArray[np.float64]


class Scoring:
    """The verbs of `GLMix` that score."""

    blocks: list[Block]
    encoder: Encoder
    link: str
    threads: int

    if TYPE_CHECKING:

        def design(self, table: Any, *, learn: bool, divert: bool = False) -> tuple[Design, Rejects]:
            """As `GLMix.design`."""

    def decision_function(self, table: Any) -> Floats:
        """Score η (n) on the link scale, at the posterior mean as it has relaxed by each row's time."""
        return self._score(table, variances=False)[0]

    def predict_proba(self, table: Any, *, averaged: bool = False) -> Floats:
        """Probability (n) that the label is 1.

        Parameters
        ----------
        averaged
            Average over the posterior of the score, p = σ(η / √(1 + π s / 8)), instead of σ(η).
        """
        if self.link != "logit":
            raise ConfigError(f"predict_proba needs link='logit'; this model has {self.link!r}, use predict")
        z, s = self._score(table, variances=averaged)
        return _links.by_name("logit").mean(z / np.sqrt(1 + np.pi * s / 8) if averaged else z)

    def predict(self, table: Any) -> Floats:
        """Expected label (n): probability, mean or rate."""
        return _links.by_name(self.link).mean(self.decision_function(table))

    def sample(self, table: Any, *, size: int = 1, scale: float = 1.0, seed: int | np.random.Generator = 0) -> Floats:
        """Thompson draws (size, n) of the score: one coefficient draw per entity, shared by the rows of the table.

            θ̃ = θ + √scale · V^{1/2} ξ,   ξ ~ N(0, I)

        Entities that were never seen draw from the prior, each for itself.

        Raises
        ------
        ConfigError
            When size < 1, or scale is negative or not finite.
        """
        if size < 1 or not 0 <= scale < float("inf"):
            raise ConfigError(f"sample(size={size}, scale={scale}) needs size >= 1 and a finite scale >= 0")
        design, _ = self.design(table, learn=False)
        return _posterior.sample(self.blocks, design, size, scale, np.random.default_rng(seed))

    def interval(self, table: Any, *, level: float = 0.9) -> Floats:
        """Credible interval (n, 2) of the expected label at `level`, from the score's Gaussian posterior."""
        if not 0 < level < 1:
            raise ConfigError(f"interval(level={level}) must be between 0 and 1")
        z, s = self._score(table, variances=True)
        half = _posterior.normal_quantile(0.5 + level / 2) * np.sqrt(s)
        return _links.by_name(self.link).mean(np.stack([z - half, z + half], axis=1))

    def explain(self, table: Any) -> list[list[_posterior.Contribution]]:
        """Why each row has its score: the contribution of every effect and feature and its sd, largest first."""
        design, _ = self.design(table, learn=False)
        return _posterior.explain(self.blocks, self.encoder, design)

    def _score(self, table: Any, *, variances: bool) -> tuple[Floats, Floats]:
        design, _ = self.design(table, learn=False)
        return _replay.score(self.blocks, self.encoder.n_slots, design, variances, self.threads)
