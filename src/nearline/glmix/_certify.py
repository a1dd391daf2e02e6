"""Minibatch updates of one effect with a certificate for every entity: what is sure of each, and which to fit again.

The certificate (`nearline.glmix._certificate`) asks that nothing but the effect moves, so the other effects are locked
and must not forget. G_t, the objective that it speaks of, is the posterior that the certifier started from and the
discounted losses since; started at the base prior, or given the rows of the fit as history, that is a batch job's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nearline._errors import ConfigError
from nearline.features import Design
from nearline.glmix import _certificate, _fold, _layout, _links, _minibatch_step
from nearline.glmix._block import Grouping
from nearline.glmix._certificate import Certificate, Path
from nearline.glmix._codes import NEVER, PER_UPDATE
from nearline.glmix._effects import Loadings
from nearline.glmix._packed import unpack
from nearline.glmix._state import Block
from nearline.glmix._terms import Terms

if TYPE_CHECKING:
    from nearline.glmix._model import GLMix

Floats = NDArray[np.float64]

UNSURE = "the batch objective may have risen: its past is known only to second order"
FAILED = "the solve failed: nothing was learned"


@dataclass(frozen=True, slots=True)
class Certified:
    """What is sure of one update, per entity (E).

    Attributes
    ----------
    codes
        The entities of the slice.
    improvement
        The batch objective has fallen by at least this much; at most 0 where nothing is certain.
    distance
        The coefficients are at most so far from exact retraining, in standard deviations of the widest prior.
    reasons
        Why an update is not certified, one text per entity; empty where it is. Such an update counts all the same.
    refit
        Entities whose distance is beyond the limit: they want a batch fit.
    """

    codes: NDArray[np.int64]
    improvement: Floats
    distance: Floats
    reasons: tuple[str, ...]
    refit: NDArray[np.bool_]

    @property
    def certified(self) -> NDArray[np.bool_]:
        """Entities (E) whose update is sure to have improved."""
        return np.array([not reason for reason in self.reasons], dtype=np.bool_)


class Certifier:
    """Updates one effect by minibatches and certifies each; the other effects stay as they are.

    Parameters
    ----------
    model
        The model to keep fresh, in place.
    effect
        Name of the effect that learns; its precision must be full and its forgetting multiplicative.
    history
        The rows that the model was fitted to, whose losses its posterior stands for; None where it is at its priors,
        or where its posterior is taken for exact. What the model learns otherwise later is taken for exact too.
    limit
        Distance, in standard deviations of the widest prior, beyond which an entity wants a batch fit.

    Raises
    ------
    ConfigError
        Where no certificate holds: why.

    Examples
    --------
    >>> from nearline import GLMix, Random, Schema
    >>> model = GLMix(Schema(label="liked"), random=[Random("user_id")])
    >>> certifier = Certifier(model, "user_id")
    >>> found = certifier.partial_fit({"user_id": [1, 1, 2], "liked": [1, 1, 0]})
    >>> found.certified.tolist(), found.refit.tolist()
    ([True, True], [False, False])
    """

    def __init__(self, model: GLMix, effect: str, *, history: Any = None, limit: float = 1.0) -> None:
        self.model, self.effect, self.limit = model, effect, limit
        if not limit > 0.0:
            raise ConfigError(f"Certifier(limit=...) must be > 0, got {limit!r}")
        reason = _unavailable(model, model.block(effect))
        if reason:
            raise ConfigError(f"no certificate for effect {effect!r}: {reason}")
        self._paths: dict[int, Path] = {}
        self._left_at = model.events_learned
        if history is not None:
            self._remember(model.design(history, learn=True)[0])

    def partial_fit(self, table: Any) -> Certified:
        """Learn a minibatch (`GLMix.partial_fit`) and certify it."""
        model = self.model
        if model.events_learned != self._left_at:
            self._paths.clear()
        design = model.design(table, learn=True)[0]
        block = model.block(self.effect)
        step = _Step.of(model, block, design)
        others = [other.name for other in model.blocks if other is not block]
        refused = model.partial_fit(design, mode="minibatch", locked=others).refused
        self._left_at = model.events_learned
        failed = np.isin(step.codes, np.unique(step.row_codes[refused]))
        after = block.mean[step.codes].astype(np.float64)
        found = [self._certify(step, e, after[e]) if not failed[e] else None for e in range(len(step.codes))]
        return self._report(step.codes, found, np.sqrt(_least_precision(block)))

    def _certify(self, step: _Step, e: int, after: Floats) -> Certificate:
        code, before = int(step.codes[e]), step.before[e]
        path = _padded(self._paths.get(code, Path.start(before)), before)
        decrease, M, residual = step.measure(e, after)
        sure, self._paths[code] = _certificate.certify(
            path, before, after, decrease, delta=step.delta[e], M=M, mu=_least_precision(step.block), residual=residual
        )
        return sure

    def _report(self, codes: NDArray[np.int64], found: Sequence[Certificate | None], scale: float) -> Certified:
        improvement = np.array([sure.improvement if sure else 0.0 for sure in found])
        distance = np.array([sure.distance * scale if sure else 0.0 for sure in found])
        reasons = tuple(FAILED if sure is None else "" if sure.certified else UNSURE for sure in found)
        return Certified(codes, improvement, distance, reasons, distance > self.limit)

    def _remember(self, history: Design) -> None:
        """Start every entity at its mode, with the Lipschitz constant of its share of the history."""
        block = self.model.block(self.effect)
        step = _Step.of(self.model, block, history)
        for e, code in enumerate(step.codes.tolist()):
            self._paths[code] = Path.start(step.before[e], step.lipschitz(e))


@dataclass(frozen=True, slots=True)
class _Step:
    """A minibatch as it is before it is learned: each entity's rows, its prior and how much of its past is left."""

    block: Block
    link: _links.Link
    grouping: Grouping
    row_codes: NDArray[np.int32]
    before: Floats
    mean: Floats
    P: Floats
    delta: Floats
    X: Floats
    y: Floats
    weight: Floats
    offset: Floats

    @classmethod
    def of(cls, model: GLMix, block: Block, design: Design) -> _Step:
        grouping, row_codes = _minibatch_step.grouping_of(block, design), _layout.entity_codes(block, design)
        terms, r = Terms(model.blocks, model.encoder.n_slots, design), model.blocks.index(block)
        weight = design.weight * _minibatch_step.late_discount(block, row_codes, grouping, design)
        now = _minibatch_step.newest(block, grouping, design)
        mean, cov = block.relaxed(grouping.codes, now, np.diff(grouping.ptr), updating=True)
        sparse = terms.local_design(r)
        X = np.zeros((design.rows, block.d))
        delta = _discounts(block, now - block.last[grouping.codes])
        np.add.at(X, (np.repeat(np.arange(design.rows), np.diff(sparse.indptr)), sparse.indices), sparse.values)
        return cls(
            block, _links.by_name(model.link), grouping, row_codes, block.mean[grouping.codes].astype(np.float64),
            mean, np.linalg.inv(unpack(cov)).astype(np.float64), delta, X, design.label, weight, terms.offset(r),
        )  # fmt: skip

    @property
    def codes(self) -> NDArray[np.int64]:
        return self.grouping.codes

    def _rows(self, e: int) -> NDArray[np.int64]:
        return self.grouping.order[self.grouping.ptr[e] : self.grouping.ptr[e + 1]]

    def lipschitz(self, e: int) -> float:
        rows = self._rows(e)
        return _certificate.lipschitz(self.link, self.X[rows], self.weight[rows])

    def measure(self, e: int, after: Floats) -> tuple[float, float, float]:
        """(f(before) − f(after), Lipschitz constant of the batch, ‖∇f(after)‖) of an entity."""
        rows = self._rows(e)
        X, y, w, offset = self.X[rows], self.y[rows], self.weight[rows], self.offset[rows]

        def f(theta: Floats) -> float:
            away = theta - self.mean[e]
            return float(w @ self.link.loss(y, X @ theta + offset)) + 0.5 * float(away @ self.P[e] @ away)

        slope = X.T @ (w * self.link.gradient(y, X @ after + offset)) + self.P[e] @ (after - self.mean[e])
        return f(self.before[e]) - f(after), self.lipschitz(e), float(np.linalg.norm(slope))


def _unavailable(model: GLMix, block: Block) -> str:
    """Why an effect of a model has no certificate; empty where it has one."""
    for other in model.blocks:
        if isinstance(other.effect, Loadings) and block.name in (other.name, other.effect.of):
            return "it is part of a product, whose other side moves its design"
        if other is not block and (other.belief.form != NEVER or _walks(other)):
            return f"effect {other.name!r} forgets, and with it moves the offsets"
    link = _links.by_name(model.link)
    return _certificate.unavailable(link, block.kind, block.belief.form, walks=_walks(block))


def _discounts(block: Block, since: Floats) -> Floats:
    """δ of each entity (E) by the time since its last update; 1 before the first."""
    form, rate = block.belief.form, block.belief.rate
    if form == NEVER:
        return np.ones(len(since))
    left = np.full(len(since), rate) if form == PER_UPDATE else _fold.time_factor(since, rate)
    return np.asarray(np.where(np.isnan(since), 1.0, left), np.float64)


def _walks(block: Block) -> bool:
    return any(part.any() for part in block.belief.walks(block.columns))


def _least_precision(block: Block) -> float:
    """λ_min(Λ0)."""
    return float(1.0 / np.linalg.eigvalsh(block.belief.V0(block.columns)).max())


def _padded(path: Path, now: Floats) -> Path:
    """A path in the dimensions of now: those that came later stand where they are, as no past row had them."""
    new = len(now) - len(path.centre)
    if not new:
        return path
    centre = np.concatenate([path.centre, now[-new:]])
    return Path(centre, path.S0, np.concatenate([path.S1, np.zeros(new)]), path.S2, path.residual)
