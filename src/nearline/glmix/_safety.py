"""What a tick of events must look like to be learned: limits on rows, on steps, and on how surprised the model may be.

Pure functions of arrays; `_try_learn` applies them.

**A step** in posterior standard deviations needs no matrix. One event moves all blocks by a S x, so

    Δθᵀ S⁻¹ Δθ = a² xᵀ S x = a² s

**Surprise** is tested with e-values: for every predictive distribution P, E_P[exp(½ L)/E_P exp(½ L)] = 1 for the loss
L = −log P(y), and likewise for exp(θ y). Products over a tick are non-negative martingales of mean one when outcomes
follow the model's own predictions, each made before its row was learned, so their average E ever exceeds 1/α with
probability at most α (Ville), at whatever row one looks. In minibatch mode the rows of a tick are predicted together
and α is nominal. A model that is merely off by a little accumulates evidence too: a tick is rejected only where its
mean excess loss or label shift is also large. A model that knows little is surprised by nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearline._errors import ConfigError
from nearline.features import Design
from nearline.glmix import _predictive
from nearline.glmix._learned import LearnedEvents, lessons
from nearline.glmix._links import IDENTITY, LOG, LOGIT, Link, by_name

Floats = NDArray[np.float64]
Status = NDArray[np.int8]

REASONS = (
    "", "no weight", "a feature is not finite", "the label does not suit the link", "the weight is no weight",
    "the offset or time is not finite", "the score is beyond the limit", "the update is not finite or not converged",
    "the step is too long", "the tick was rejected",
)  # fmt: skip
(
    LEARNED, WEIGHTLESS, FEATURE, LABEL, WEIGHT, OFFSET, MARGIN, NOT_FINITE, STEP, REJECTED
) = range(len(REASONS))  # fmt: skip

_JUDGES = {"logit": _predictive.bernoulli, "identity": _predictive.normal, "log": _predictive.counts}
TILTS = (-0.8, -0.2, -0.05, 0.05, 0.2, 0.8)
FEW = 20
UNSURE = 0.25


@dataclass(frozen=True, slots=True)
class Safety:
    """Limits beyond which events are refused, or a whole tick.

    Parameters
    ----------
    step
        Longest step of one event, in posterior standard deviations; for an entity's minibatch, √d more.
    margin
        Largest score |z| on the logit and log scales; the identity link's scores have their own unit and no limit.
    alpha
        Probability that a tick drawn from the model's own predictions counts as surprising.
    excess
        A surprising tick is rejected when its mean loss exceeds the expected one by this many nats, or
    shift
        when its labels' mean is off by this many predictive standard deviations.
    refused
        A tick of 20 rows or more is rejected when more than this share of them is refused.

    Examples
    --------
    >>> Safety(step=0.0)
    Traceback (most recent call last):
        ...
    nearline._errors.ConfigError: Safety(step=...) must be > 0, got 0.0
    """

    step: float = 6.0
    margin: float = 30.0
    alpha: float = 1e-6
    excess: float = 0.3
    shift: float = 0.4
    refused: float = 0.5

    def __post_init__(self) -> None:
        for name in ("step", "margin", "alpha", "excess", "shift", "refused"):
            value = getattr(self, name)
            if not value > 0.0:
                raise ConfigError(f"Safety({name}=...) must be > 0, got {value!r}")
        if not self.alpha < 1.0:
            raise ConfigError(f"Safety(alpha=...) is a probability below 1, got {self.alpha!r}")

    def margin_limit(self, link: Link) -> float:
        """Largest |z| of a link."""
        return float("inf") if link is IDENTITY else self.margin


@dataclass(frozen=True, slots=True)
class Surprise:
    """How far a tick is from what the model predicted, up to the row where it was furthest.

    While a poisoned tick is learned the model comes to expect it; Ville's bound holds at every row.

    Attributes
    ----------
    excess
        Mean loss over its expectation, in nats per row (0 for the log link, which is judged by its labels alone).
    shift
        Mean of labels less predictions, in predictive standard deviations.
    log_evidence
        log E; above log(1/α) with probability at most α when the model is right.
    """

    excess: float
    shift: float
    log_evidence: float


def inspect_rows(design: Design, link: str) -> Status:
    """Status (n) of rows before anything is computed: whatever is not finite or not of its kind is refused by name.

    Examples
    --------
    >>> inspect_rows(Design(np.array([0, 1]), np.array([0], np.int32), np.array([np.inf]), {}, np.ones(1), np.ones(1),
    ...                     np.zeros(1), np.zeros(1)), "logit").tolist() == [FEATURE]
    True
    """
    status = np.where(design.weight == 0.0, WEIGHTLESS, LEARNED).astype(np.int8)
    status[~(np.isfinite(design.offset) & np.isfinite(design.time))] = OFFSET
    status[~((design.weight >= 0.0) & (design.weight < np.inf))] = WEIGHT
    status[~_suits(by_name(link), design.label) & (status != WEIGHTLESS)] = LABEL
    start, stop = design.indptr[0], design.indptr[-1]
    bad = np.flatnonzero(~np.isfinite(design.values[start:stop]))
    status[np.searchsorted(design.indptr, bad + start, side="right") - 1] = FEATURE
    return status


def _suits(link: Link, label: Floats) -> NDArray[np.bool_]:
    if link is LOGIT:
        return np.isin(label, (0.0, 1.0))
    return np.isfinite(label) & (label >= (0.0 if link is LOG else -np.inf))


def inspect_margins(safety: Safety, link: str, margin: Floats) -> NDArray[np.bool_]:
    """Rows (n) whose score is beyond the limit; one that is no number is."""
    return np.asarray(~(np.abs(margin) <= safety.margin_limit(by_name(link))))


def inspect_steps(safety: Safety, link: str, events: LearnedEvents) -> NDArray[np.bool_]:
    """Rows (n) whose event moved, or would move, the posterior by more than the limit: |a| √s > step."""
    return np.asarray(~(step_of(link, events) <= safety.step))


def step_of(link: str, events: LearnedEvents) -> Floats:
    """Length of each event's step (n) in posterior standard deviations, |a| √s; NaN is no number's."""
    with np.errstate(all="ignore"):
        taught = lessons(by_name(link), events)
        return np.asarray(np.abs(taught.a) * np.sqrt(taught.s))


def inspect_tick(
    safety: Safety, link: str, events: LearnedEvents, status: Status, *, together: bool = False
) -> tuple[str, Surprise]:  # fmt: skip
    """Why a tick is rejected as a whole (empty where it is not), and how surprising its learned rows were.

    Rows that were predicted `together`, before any of them was learned, are in error together: then only those judge
    whose score the model was sure of.
    """
    judges = (status == LEARNED) & (events.weight > 0.0)
    if together:
        judges &= events.variance <= (UNSURE / np.maximum(events.weight, 1e-300) if link == "identity" else UNSURE)
    surprise = surprise_of(by_name(link), events.take(judges))
    refused, rows = int(np.count_nonzero(status > WEIGHTLESS)), int(np.count_nonzero(status != WEIGHTLESS))
    if rows >= FEW and refused > safety.refused * rows:
        return f"{refused} of {rows} rows were refused", surprise
    if surprise.log_evidence <= -np.log(safety.alpha):
        return "", surprise
    if surprise.excess > safety.excess:
        return f"its loss is {surprise.excess:.2f} nats a row above what the model expects", surprise
    if abs(surprise.shift) > safety.shift:
        return f"its labels are {surprise.shift:+.2f} standard deviations off what the model expects", surprise
    return "", surprise


def surprise_of(link: Link, events: LearnedEvents) -> Surprise:
    """How surprising outcomes are under the predictive distributions made just before each was learned.

    logit: Bernoulli(σ(z / √(1 + πs/8))); identity: N(z, s + 1/w); log: negative binomial with the mean and variance of
    a Poisson whose log rate is N(z, s).

    Examples
    --------
    >>> ones, z = np.ones(50), np.full(50, -3.0)
    >>> tick = LearnedEvents(ones, ones, 0 * ones, z, 0 * ones, ones)
    >>> found = surprise_of(LOGIT, tick)
    >>> round(found.excess, 2), found.log_evidence > 20
    (2.86, True)
    """
    if not len(events):
        return Surprise(0.0, 0.0, 0.0)
    y, z, s = events.label, events.margin, np.nan_to_num(np.maximum(events.variance, 0.0))
    excess, loss, off, sd, tilted = _JUDGES[link.name](y, z, s, events.weight)
    mixed = np.logaddexp.reduce([np.cumsum(tilted(tilt)) for tilt in TILTS]) - np.log(len(TILTS))
    if loss is not None:
        mixed = np.logaddexp(mixed, np.cumsum(loss)) - np.log(2.0)
    least = min(FEW, len(y)) - 1
    most = least + int(np.argmax(mixed[least:]))
    until = slice(0, most + 1)
    return Surprise(float(excess[until].mean()), float(off[until].sum() / sd[until].sum()), float(mixed[most]))
