"""The fixed effect of a batch fit: its mode by truncated Newton, then a posterior of the block's own kind."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nearline._errors import ConfigError
from nearline.glmix._block import BlockResult, Grouping, LocalDesign
from nearline.glmix._codes import FULL
from nearline.glmix._effects import INTERCEPT, Fixed, by_column
from nearline.glmix._fit import _newton, _posterior, _scale
from nearline.glmix._fit._newton import Mode, Problem
from nearline.glmix._fit._settings import FixedFit
from nearline.glmix._links import Link
from nearline.glmix._solve import CONVERGED, NOT_POSITIVE_DEFINITE, STATUSES, TOLERANCE
from nearline.glmix._state import Block

Floats = NDArray[np.float64]

SMALL, LARGE_TOLERANCE = 2_000, 1e-6


@dataclass(frozen=True, slots=True)
class FixedMode:
    """A solve of the fixed effect: its mode, from which `settle` makes the posterior once the descent is over."""

    block: Block
    problem: Problem
    mode: Mode
    result: BlockResult

    @property
    def gradient_norm(self) -> float:
        """Norm of the (pseudo-)gradient at the start over the coefficients that neither L1 nor bounds hold."""
        return self.mode.gradient_norm

    @property
    def variances(self) -> str:
        """What the block's variances will be."""
        return _posterior.label(self.block, _settings(self.block))

    def settle(self) -> BlockResult:
        """Give the block its posterior and complete the result's evidence; at its prior where H has no inverse."""
        if self.mode.status != CONVERGED:
            return self.result
        try:
            posterior = _posterior.of(self.block, self.problem, self.mode.point.curvature, _settings(self.block))
        except np.linalg.LinAlgError:
            self.block.mean[0], self.block.cov[0] = self.block.prior_arrays()
            status = np.array([STATUSES.index(NOT_POSITIVE_DEFINITE)], np.int8)
            return replace(self.result, status=status, change=np.array([np.nan]))
        self.block.cov[0] = posterior.row
        return replace(self.result, evidence=np.array([_evidence(self.problem, self.mode, posterior.log_determinant)]))


def solve_fixed(
    block: Block,
    grouping: Grouping,
    design: LocalDesign,
    y: Floats,
    w: Floats,
    offset: Floats,
    link: Link, *,
    exact: bool,
) -> FixedMode:  # fmt: skip
    """Find the fixed effect's mode given the others, from its current mean, in place; at its prior where that fails.

    Not `exact`, one Newton step towards it will do.
    """
    settings = _settings(block)
    problem = _problem(block, settings, design, y, w, offset, link)
    scale = _scale.of(settings.normalise, design, w, block.d, block.selects(INTERCEPT))
    if scale.shifted and (problem.l1[0] > 0.0 or np.isfinite([problem.low[0], problem.high[0]]).any()):
        raise ConfigError("FixedFit(normalise='standardise') takes no L1 penalty or bounds of the intercept")
    tolerance = settings.tolerance or (TOLERANCE if block.d <= SMALL else LARGE_TOLERANCE)
    mode = _newton.minimise(problem, block.mean[0].astype(np.float64), scale, tolerance if exact else np.inf)
    failed = mode.status != CONVERGED
    # Back from another scale, a coefficient on its bound may be off it by a rounding.
    block.mean[0] = problem.mean if failed else np.clip(mode.point.b, problem.low, problem.high)
    result = BlockResult(
        grouping, np.array([STATUSES.index(mode.status)], np.int8), np.array([mode.steps], np.int32),
        np.array([np.nan]), np.array([np.nan if failed else np.linalg.norm(mode.point.b - problem.mean)]),
        np.array([mode.decrement]),
    )  # fmt: skip
    return FixedMode(block, problem, mode, result)


def _settings(block: Block) -> FixedFit:
    assert isinstance(block.effect, Fixed)
    return block.effect.fit


def _problem(
    block: Block, settings: FixedFit, design: LocalDesign, y: Floats, w: Floats, offset: Floats, link: Link
) -> Problem:
    precision = 1.0 / block.belief.variance0(block.columns)
    if block.kind == FULL and not block.belief.independent:
        precision = np.linalg.inv(block.belief.V0(block.columns))
    l1 = by_column(block.columns, settings.l1_of)
    low = by_column(block.columns, lambda column: settings.bounds_of(column)[0])
    high = by_column(block.columns, lambda column: settings.bounds_of(column)[1])
    mean = block.belief.mu0(block.columns)
    return Problem(design, y, w, offset, link, mean, precision, l1, low, high)


def _evidence(problem: Problem, mode: Mode, log_determinant: float) -> float:
    """Laplace log p(data) = −l − penalty + ½ log|P| − ½ log|H|, with H as the posterior keeps it."""
    P = problem.precision
    prior = float(np.log(P).sum() if P.ndim == 1 else np.linalg.slogdet(P)[1])
    return -mode.point.f + 0.5 * (prior - log_determinant)
