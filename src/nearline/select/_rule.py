"""What every rule shares: budgets, unknown values, empty and full windows, the report."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

from nearline.select._scores import Floats, Ints, Scores, ascending, known, scaled
from nearline.select._selection import Cost, Report, Selection, effective_size, rows_of
from nearline.select._state import SelectorState


@dataclass(frozen=True)
class Draw:
    """What a rule itself decides: rows in any order, their probabilities and weights, further facts for the report."""

    index: Ints
    prob: Floats | None = None
    weight: Floats | None = None
    recorded: Floats | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    cell: Ints | None = None


@dataclass(frozen=True)
class Rule(ABC):
    """Base of every rule; a subclass says how to draw b of n, 0 < b < n.

    `column` is what the rule orders or weighs the rows by; unknown values stand at the window's mean.
    """

    name: ClassVar[str]
    unbiased: ClassVar[bool] = False
    fixed: ClassVar[bool] = True
    column: ClassVar[str | None] = "loss"

    def __call__(
        self, scores: Scores, budget: int | float | Cost, rng: np.random.Generator, state: SelectorState | None = None
    ) -> Selection:
        """Rows of the window to train on; see `Selector`."""
        n, scores = len(scores), scores.matured()
        b = rows_of(budget, n)
        values, unknown = self._values(scores)
        after = state or SelectorState()
        if n:
            after = self._watch(scores, values, b, after)
        if b == 0:
            draw = Draw(np.empty(0, np.int64), np.empty(0) if self.unbiased else None)
        elif b == n and self.fixed:
            draw = Draw(np.arange(n), np.ones(n), recorded=relative(values))
        else:
            draw = self._draw(scores, values, b, rng, state)
        facts = {"unknown": int(unknown.sum()), "unsketched": _unsketched(scores) if self.sketched else 0}
        return _selection(self.name, scores, draw, after, facts)

    def learn(self, state: SelectorState, chosen: Selection, fresh: Any) -> SelectorState:
        """The state after training on `chosen`; rules without memory of fresh scores return it as it is."""
        del chosen, fresh
        return state

    @property
    def sketched(self) -> bool:
        """Whether the rule goes by the column `sketch` of `Scores`, which must then have been recorded."""
        return "sketch" in self._balance()

    @property
    def sliced(self) -> bool:
        """Whether the rule goes by the column `slice` of `Scores`."""
        return getattr(self, "order", "") == "slice" or not {"slice", "slice_error"}.isdisjoint(self._balance())

    @property
    def leveraged(self) -> bool:
        """Whether the rule goes by the column `leverage` of `Scores`, which is known when a window comes."""
        return bool(getattr(self, "leverage", False)) or "leverage" in self._balance()

    def _balance(self) -> tuple[str, ...]:
        return getattr(self, "balance", ())

    def __str__(self) -> str:
        """The name, and those parameters that differ from what they are by default."""
        given = ((f.name, getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) != f.default)
        changed = ", ".join(f"{name}={json.dumps(value)}" for name, value in given)
        return f"{self.name}({changed})" if changed else self.name

    def settings(self) -> dict[str, Any]:
        """The rule's name and parameters: enough for `by_name`, and for a log."""
        return {"rule": self.name, **asdict(self)}

    @property
    def key(self) -> str:
        """16 hexadecimal digits that change with any setting."""
        return hashlib.sha256(json.dumps(self.settings(), sort_keys=True).encode()).hexdigest()[:16]

    def _values(self, scores: Scores) -> tuple[Floats, Any]:
        if self.column is None:
            return np.ones(len(scores)), np.zeros(len(scores), bool)
        values = scores.column(self.column, f"rule {self.name!r}")
        return known(values, 0.0 if self.column == "score" else -np.inf)

    def _watch(self, scores: Scores, values: Floats, b: int, state: SelectorState) -> SelectorState:
        """The state after a window was seen, whatever is drawn of it."""
        del scores, values, b
        return state

    @abstractmethod
    def _draw(
        self, scores: Scores, values: Floats, b: int, rng: np.random.Generator, state: SelectorState | None
    ) -> Draw:
        """B of n rows, 0 < b < n; `values` are all finite. `state` is the one before this window."""


def relative(values: Floats) -> Floats:
    """S / mean(s); ones where all are zero.

    >>> relative(np.array([1.0, 3.0]))
    array([0.5, 1.5])
    """
    s = scaled(values)
    mean = float(np.mean(s)) if len(s) else 0.0
    return s / mean if mean > 0 else np.ones(len(s))


def ranked(values: Floats, rng: np.random.Generator) -> Ints:
    """Positions by ascending value, ties in random order."""
    order = rng.permutation(len(values))
    return order[ascending(values[order])]


def _unsketched(scores: Scores) -> int:
    """Rows whose sketch was not recorded."""
    return 0 if scores.sketch is None else int((~np.isfinite(scores.sketch).all(axis=1)).sum())


def _selection(name: str, scores: Scores, draw: Draw, state: SelectorState, counts: dict[str, int]) -> Selection:
    n, b = len(scores), len(draw.index)
    order = np.argsort(draw.index, kind="stable")
    index = draw.index[order]
    weight = np.ones(b) if draw.weight is None else draw.weight[order]
    facts = {
        "gap": gap(scores.loss, index, weight),
        "effective": effective_size(weight),
        **counts,
        "lag": _median(scores.lag),
        "age": _median(scores.age),
    }
    return Selection(
        index,
        None if draw.prob is None else draw.prob[order],
        weight if scores.maturity is None else weight * scores.maturity[index],
        Report(name, n, b, **(facts | draw.facts)),
        state,
        None if draw.recorded is None else draw.recorded[index],
        cell=None if draw.cell is None else draw.cell[index],
    )


def gap(loss: Floats | None, index: Ints, weight: Floats) -> float:
    """|(1/b) sum over the chosen of omega_i l_i - (1/n) sum l_i| / std(l): how well the mean loss is matched.

    >>> gap(np.array([0.0, 1.0, 2.0]), np.array([1]), np.ones(1))
    0.0
    """
    if loss is None or not len(index):
        return float("nan")
    values = scaled(known(loss)[0])
    spread = float(np.std(values))
    return abs(float(np.mean(weight * values[index])) - float(np.mean(values))) / spread if spread > 0 else 0.0


def _median(values: Floats | None) -> float:
    return float(np.median(values)) if values is not None and len(values) else float("nan")
