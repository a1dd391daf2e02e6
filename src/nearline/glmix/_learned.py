"""What must be remembered of an event that was learned, so that it can be corrected or taken back later.

An event's update is a function of two numbers: its margin z just before it was learned and that margin's variance s.
From them follow the mode η, the step a and the precision gained h, for the label it had or any other:

    η = z − s w g(η),    a = −w g(η),    h = w D(η)

Examples
--------
>>> from nearline.glmix._links import by_name
>>> eta, g, D = mode(by_name("identity"), np.array([1.0]), np.array([3.0]), np.array([0.0]))
>>> float(eta[0]), float(g[0])
(0.75, -0.25)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearline._errors import DataError
from nearline.features import Design
from nearline.glmix import _layout
from nearline.glmix._codes import REVERTING, STABILISED
from nearline.glmix._links import IDENTITY, LOG, Link
from nearline.glmix._state import Block

Floats = NDArray[np.float64]
MAX_STEPS = 100
CLOSE = 1e-9


@dataclass(frozen=True, slots=True)
class LearnedEvents:
    """What n events taught, in a form that can be stored as float64 columns and undone later.

    Attributes
    ----------
    label, weight, time
        As learned (n); an identity link's dispersion is already in the weight.
    margin, variance
        Event mode: the score z just before the event was learned, on the link scale, and its variance s. Minibatch
        mode: the score η just after, and NaN.
    discount
        What lateness left of the weight, 2^(−lateness/τ); 1 for an event in time.
    shares
        Each block's part of the score just after (n, R), offset not included; None where it was not recorded. With
        them, corrections long after the event are two to three times closer in a model of several blocks.
    """

    label: Floats
    weight: Floats
    time: Floats
    margin: Floats
    variance: Floats
    discount: Floats
    shares: Floats | None = None

    def __len__(self) -> int:
        return len(self.margin)

    def take(self, rows: Any) -> LearnedEvents:
        """The events of some rows: a slice, numbers or a mask.

        Examples
        --------
        >>> LearnedEvents(*np.ones((6, 3))).take([0, 2]).label.tolist()
        [1.0, 1.0]
        """
        return LearnedEvents(
            self.label[rows], self.weight[rows], self.time[rows], self.margin[rows], self.variance[rows],
            self.discount[rows], None if self.shares is None else self.shares[rows],
        )  # fmt: skip

    def columns(self) -> dict[str, Floats]:
        """The columns that a log must hold: ``margin``, ``variance``, ``discount``; its rows have the other three."""
        return {"margin": self.margin, "variance": self.variance, "discount": self.discount}

    @classmethod
    def of(cls, design: Design, columns: Mapping[str, Any], label: Any = None) -> LearnedEvents:
        """Events of a design and the columns that were stored; `label` where the design has none.

        Raises
        ------
        DataError
            When a column is missing or not as long as the design.
        """
        found = {name: np.asarray(columns.get(name, ()), dtype=np.float64) for name in ("margin", "variance")}
        found["discount"] = np.asarray(columns.get("discount", np.ones(design.rows)), dtype=np.float64)
        found["label"] = np.asarray(design.label if label is None else label, dtype=np.float64)
        for name, column in found.items():
            if column.shape != (design.rows,):
                raise DataError(
                    f"{column.size} numbers for {design.rows} events", column=name, fix="store it as it was learned"
                )
        return cls(weight=design.weight, time=design.time, **found)

    def relabelled(self, label: Floats, rows: NDArray[np.bool_]) -> LearnedEvents:
        """The same events with another label where `rows` is true."""
        return replace(self, label=np.where(rows, label, self.label))


def recorded(design: Design, discount: Floats, margin: Floats, variance: Floats) -> LearnedEvents:
    """What event mode taught: the design, `discounts` of before, and the margins and variances that it returned."""
    return LearnedEvents(design.label, design.weight, design.time, margin, variance, discount)


@dataclass(frozen=True, slots=True)
class Lessons:
    """What events taught (n each): step a, precision gained h, variance gain c = h / (1 + h s), mode η."""

    eta: Floats
    a: Floats
    h: Floats
    c: Floats
    s: Floats


def lessons(link: Link, events: LearnedEvents, label: Floats | None = None) -> Lessons:
    """What the events taught, or would have taught with another label."""
    w, joint = events.weight * events.discount, ~np.isnan(events.variance)
    s = np.where(joint, events.variance, 0.0)
    y = events.label if label is None else label
    eta, g, D = mode(link, y, s * w, events.margin)
    return Lessons(eta, -w * g, w * D, w * D / (1.0 + w * D * s), s)


def mode(link: Link, y: Floats, sw: Floats, z: Floats) -> tuple[Floats, Floats, Floats]:
    """Margins η after an update and the slopes (g, D) there: the root of f(η) = η − z + s w g(η), for n rows.

    Newton's method inside a bracket; a step out of it, or not half the one before, is replaced by halving the bracket.
    f grows at least as fast as η, so the root lies between z and z − f(z).
    The NumPy twin of `nearline.glmix._kernels._event.solve_margin`.

    Examples
    --------
    >>> from nearline.glmix._links import by_name
    >>> eta, g, _ = mode(by_name("logit"), np.array([1.0]), np.array([2.0]), np.array([0.5]))
    >>> bool(abs(eta - 0.5 + 2.0 * g)[0] < 1e-15)
    True
    """
    y, sw, z = (np.asarray(v, dtype=np.float64) for v in (y, sw, z))
    with np.errstate(all="ignore"):
        if link is IDENTITY:
            eta = (z + sw * y) / (1.0 + sw)
            return eta, (z - y) / (1.0 + sw), np.ones_like(eta)
        eta = _start(link, y, sw, z)
        f = eta - z + sw * link.gradient(y, eta)
        low, high = np.minimum(eta, eta - f), np.maximum(eta, eta - f)
        if link is LOG:
            high = np.where((f < 0.0) & (y > 0.0), np.minimum(high, np.maximum(np.log(y), eta)), high)
        last, open_ = 2.0 * (high - low), ~np.isnan(f)
        for _ in range(MAX_STEPS):
            low, high = np.where(f > 0.0, low, eta), np.where(f > 0.0, eta, high)
            step = -f / (1.0 + sw * link.curvature(y, eta))
            # The error after a Newton step is at most half its square.
            close = np.abs(step) <= CLOSE * (1.0 + np.abs(eta))
            inside = (eta + step >= low) & (eta + step <= high) & (2.0 * np.abs(step) <= last)
            after = np.where(inside | close, eta + step, 0.5 * (low + high))
            last, eta = np.abs(after - eta), np.where(open_, after, eta)
            open_ &= ~close
            if not open_.any():
                break
            f = eta - z + sw * link.gradient(y, eta)
        return eta, link.gradient(y, eta), link.curvature(y, eta)


def _start(link: Link, y: Floats, sw: Floats, z: Floats) -> Floats:
    if link is not LOG:
        return z
    # A root η > 0 has e^η ≤ y + z / sw: start there, not where e^z may overflow.
    return np.where((z > 1.0) & (sw > 0.0), np.minimum(z, np.maximum(0.0, np.log(y + z / sw))), z)


def discounts(blocks: Sequence[Block], design: Design) -> Floats:
    """What lateness leaves of each row's weight (n) when the rows are learned in order: the least over the blocks.

    Call it before the rows are learned: a row is late by how far its entity's newest event is ahead of it.
    """
    factor = np.ones(design.rows)
    for block in blocks:
        if block.belief.form not in (REVERTING, STABILISED):
            continue
        ahead = _newest(block, design) - design.time
        late = np.where(ahead > 0.0, ahead, 0.0)
        factor = np.minimum(factor, np.exp2(-late / block.belief.rate))
    return factor


def _newest(block: Block, design: Design) -> Floats:
    """Time of the newest event of each row's entity (n) that was learned before the row; NaN for none."""
    codes, counts = _layout.entity_codes(block, design), design.weight > 0.0
    before = np.where(codes >= 0, block.last[codes], np.nan)
    if not (np.diff(design.time) < 0.0).any():
        return before
    seen: dict[int, float] = {}
    for i, (code, time) in enumerate(zip(codes.tolist(), design.time.tolist())):
        before[i] = np.fmax(before[i], seen.get(code, np.nan))
        if counts[i] and code >= 0:
            seen[code] = float(np.fmax(before[i], time))
    return before
