"""The default: probability proportional to the recorded gradient norm, a fixed size, Horvitz-Thompson weights."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from nearline._errors import ConfigError, NearlineWarning
from nearline.select import _cells, _trust
from nearline.select._auxiliaries import auxiliaries, balanced, by_slice
from nearline.select._inclusion import Mix, mixed
from nearline.select._rule import Draw, Rule, ranked, relative
from nearline.select._samplers import cube, pivotal, poisson, systematic
from nearline.select._scores import Floats, Ints, Scores, known
from nearline.select._selection import Selection
from nearline.select._state import SelectorState

_PATIENCE = 10


@dataclass(frozen=True)
class Pps(Rule):
    """Draw b rows with pi_i nearly proportional to s_i, and weigh each by omega_i = b / (n pi_i).

        q_i = lambda/n + (1 - lambda) s_i / sum s,   pi_i = min(1, c q_i),   sum pi = b
        E[(1/b) sum over S of omega_i g_i] = (1/n) sum g_i

    Without a `state` lambda is `floor`. With one it is measured: lambda = clip(1 - kappa, floor, 1), 1 at the start,
    where kappa says how well the recorded scores predict the fresh ones given to `learn`.

    Parameters
    ----------
    floor : float
        lambda_0, the least uniform share; no weight exceeds 1/lambda.
    by : {"score", "loss"}
        What stands for the gradient's norm.
    sampler : {"systematic", "pivotal", "cube", "poisson"}
        How b rows are drawn. `cube` balances `balance` as well; `poisson` draws a random number of rows.
    order : {"random", "signed_error", "slice"}
        Order in which the systematic draw and `cube` meet the rows; by signed error it is stratified by it, by slice
        by slice and signed error.
    balance : tuple of str
        Columns of `Scores` that `cube` balances; a sketch becomes its coordinates, "slice" the rows of each of the 40
        most frequent slices and of the others together, "slice_error" the errors of the 40 slices with most of them.
    leverage : bool
        Draw by s_i sqrt(leverage_i): the norm of the gradient where coordinates that few rows move count for more.
    mix : {"before_cap", "after_cap"}
        See `mixed`.
    trust : {"line", "cells"}
        What a state measures: one kappa for all records, or beside it the fresh scores to be expected by label and size
        of the record (`_cells`), which keeps more of old records; lambda is then `floor` from the first.
    normalise : {None, "hajek"}
        Divide the weights by their mean: a bias of order 1/b, less variance at tiny b.

    References
    ----------
    Horvitz and Thompson, JASA 1952; Katharopoulos and Fleuret, arXiv 1803.00942, for the norm as the best score; Wang,
    Zhu and Ma, JASA 2018, for errors times a norm under the inverse information, here the leverage.

    Examples
    --------
    >>> from nearline.select import Scores, by_name
    >>> chosen = by_name("pps")(Scores(score=np.arange(1000.0)), 0.1, np.random.default_rng(0))
    >>> len(chosen), bool(chosen.weight.max() <= 5)
    (100, True)
    """

    name: ClassVar[str] = "pps"
    unbiased: ClassVar[bool] = True

    floor: float = 0.2
    by: Literal["score", "loss"] = "score"
    sampler: Literal["systematic", "pivotal", "cube", "poisson"] = "systematic"
    order: Literal["random", "signed_error", "slice"] = "random"
    balance: tuple[str, ...] = ()
    mix: Mix = "before_cap"
    normalise: Literal["hajek"] | None = None
    trust: Literal["line", "cells"] = "line"
    leverage: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "balance", balanced(self.balance))
        if not 0 <= self.floor <= 1:
            raise ConfigError(f"floor = {self.floor}: the uniform share lambda_0 lies between 0 and 1")
        if self.balance and self.sampler != "cube":
            raise ConfigError(
                f'sampler = {self.sampler!r} balances nothing; take sampler = "cube" or leave balance empty'
            )

    def learn(self, state: SelectorState, chosen: Selection, fresh: Any) -> SelectorState:
        """The state with the trust that fresh scores f_i of the chosen rows give in the recorded ones."""
        if chosen.prob is None or chosen.recorded is None or not len(chosen):
            return state
        mature = chosen.weight * chosen.prob * chosen.report.n / len(chosen)
        f = np.asarray(fresh, dtype=np.float64) * mature
        if chosen.cell is not None:
            state = _cells.observed(state, chosen.recorded, chosen.cell, f, 1.0 / chosen.prob)
        return _trust.observed(state, chosen.recorded, f, 1.0 / chosen.prob)

    def _values(self, scores: Scores) -> tuple[Floats, Any]:
        return known(scores.column(self.by, f"rule {self.name!r} by {self.by!r}"), 0.0)

    def _watch(self, scores: Scores, values: Floats, b: int, state: SelectorState) -> SelectorState:
        windows = state.get("windows", [0.0]) + 1
        if windows[0] == _PATIENCE and not len(state.get("trust")):
            warnings.warn(
                f"{_PATIENCE} windows without fresh scores: the design stays uniform; "
                "call rule.learn(state, chosen, fresh), or pass no state",
                NearlineWarning,
                stacklevel=3,
            )
        return state.put(windows=windows)

    def _draw(
        self, scores: Scores, values: Floats, b: int, rng: np.random.Generator, state: SelectorState | None
    ) -> Draw:
        x, cell, share = relative(values), None, _trust.uniform_share(state, self.floor)
        if self.trust == "cells" and state is not None:
            cell, share = _cells.cells(x, scores.label), self.floor
            values = _cells.expected(state, x, cell)
        if self.leverage:
            rests = known(scores.column("leverage", "rule 'pps' by leverage"), 0.0)[0]
            values = values * np.sqrt(rests)
        pi = mixed(values, b, share, self.mix)
        index = self._sample(scores, pi, rng)
        weight = len(index) / (len(pi) * pi[index])
        if self.normalise == "hajek" and len(index):
            weight = weight / weight.mean()
        facts = {"uniform_share": share, "kappa": _trust.kappa(state)}
        return Draw(index, pi[index], weight, x, facts, cell)

    def _sample(self, scores: Scores, pi: Floats, rng: np.random.Generator) -> Ints:
        if self.sampler == "pivotal":
            return pivotal(pi, rng)
        if self.sampler == "cube":
            return cube(pi, auxiliaries(scores, self.balance), rng, self._order(scores, rng))
        if self.sampler == "poisson":
            return poisson(pi, rng)
        return systematic(pi, rng, self._order(scores, rng))

    def _order(self, scores: Scores, rng: np.random.Generator) -> Ints | None:
        if self.order == "random":
            return None
        errors = known(scores.column("error", f"order {self.order!r}"))[0]
        if self.order == "signed_error":
            return ranked(errors, rng)
        return by_slice(scores.column("slice", "order 'slice'"), errors, rng)
