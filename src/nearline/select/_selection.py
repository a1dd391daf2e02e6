"""What a selector answers: which rows, how probable each was, what each weighs, and what there is to report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from nearline._errors import ConfigError
from nearline.select._scores import Floats, Ints, Scores
from nearline.select._state import SelectorState


@dataclass(frozen=True)
class Cost:
    """A budget in the units of one forward pass: a chosen row costs `forward + backward`, scoring is free.

    >>> Cost(300.0).rows(1000)
    100
    """

    units: float
    forward: float = 1.0
    backward: float = 2.0

    def rows(self, n: int) -> int:
        """Rows of n that the units pay for."""
        return min(int(self.units / (self.forward + self.backward) + 1e-9), n)


def rows_of(budget: int | float | Cost, n: int) -> int:
    """Rows to choose of n: a whole number counts rows, a fraction is the ratio r = b/n, `Cost` counts passes.

    >>> rows_of(10, 1024), rows_of(0.1, 1024), rows_of(2000, 1024)
    (10, 102, 1024)

    Raises
    ------
    ConfigError
        A negative budget, or a ratio above 1.
    """
    if isinstance(budget, Cost):
        return budget.rows(n)
    whole = isinstance(budget, int | np.integer)
    if budget < 0 or (not whole and not budget <= 1):
        raise ConfigError(f"budget = {budget!r}: give a number of rows (int >= 0) or a ratio (float from 0 to 1)")
    return min(int(budget), n) if whole else round(float(budget) * n)


@dataclass(frozen=True)
class Report:
    """Facts of one window for logs and people.

    Parameters
    ----------
    rule : str
        Name of the rule.
    n, b : int
        Rows to choose from, rows chosen.
    uniform_share : float
        lambda, the uniform share of the design; NaN where the rule has none.
    kappa : float
        Measured trust in the recorded scores: 1 trusts them, 0 makes the design uniform.
    gap : float
        |weighted mean loss of the chosen - mean loss of the window| / its standard deviation; NaN without losses.
    effective : float
        Effective sample size (sum omega)^2 / sum omega^2.
    unknown, stale, trimmed, held : int
        Rows with unknown score, too old for theirs, trimmed, held out.
    lag, age : float
        Medians over the window; NaN where not recorded.
    alarm : bool
        Trimming met a group too large to be noise: the world may have changed.
    unsketched : int
        Rows without the sketch that the rule goes by: they count as the window's mean sketch.
    """

    rule: str
    n: int
    b: int
    uniform_share: float = float("nan")
    kappa: float = float("nan")
    gap: float = float("nan")
    effective: float = 0.0
    unknown: int = 0
    stale: int = 0
    trimmed: int = 0
    held: int = 0
    lag: float = float("nan")
    age: float = float("nan")
    alarm: bool = False
    unsketched: int = 0


@dataclass(frozen=True, eq=False)
class Selection:
    """The chosen rows.

    Parameters
    ----------
    index : array (b,)
        Positions in the window, ascending.
    prob : array (b,) or None
        Inclusion probability pi_i of each (with replacement: expected draws); None where it is not known.
    weight : array (b,)
        omega_i; train on the mean over the chosen of omega_i l_i. With `prob` known omega_i = b / (n pi_i).
    report : Report
        See there.
    state : SelectorState
        To pass in with the next window.
    recorded : array (b,) or None
        s_i / mean(s) as the design used it: what `learn` compares fresh scores with.
    cell : array (b,) of int or None
        Cell of label and recorded size of each, where `trust = "cells"` learns by them.
    trimmed : array of int
        Positions that `Policy` took for noise.
    """

    index: Ints
    prob: Floats | None
    weight: Floats
    report: Report
    state: SelectorState = field(default_factory=SelectorState)
    recorded: Floats | None = None
    cell: Ints | None = None
    trimmed: Ints = field(default_factory=lambda: np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.index)


class Selector(Protocol):
    """Chooses rows: pure and stateless, all randomness from `rng`, what is remembered in `state`."""

    def __call__(
        self, scores: Scores, budget: int | float | Cost, rng: np.random.Generator, state: SelectorState | None = None
    ) -> Selection:
        """Rows of the window to train on."""
        ...

    def learn(self, state: SelectorState, chosen: Selection, fresh: Any) -> SelectorState:
        """The state after the trainer's own forward gave the chosen rows the scores `fresh`."""
        ...


def effective_size(weight: Floats) -> float:
    """(sum omega)^2 / sum omega^2: as many equally weighted rows would say as much.

    >>> effective_size(np.array([1.0, 1.0, 0.0]))
    2.0
    """
    square = float(weight @ weight)
    return float(weight.sum()) ** 2 / square if square else 0.0
