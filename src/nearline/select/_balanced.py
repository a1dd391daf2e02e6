"""Balanced sampling with equal probabilities: loss matching with exact pi, and of more than the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nearline.select._auxiliaries import auxiliaries, balanced
from nearline.select._rule import Draw, Rule
from nearline.select._samplers import cube
from nearline.select._scores import Floats, Scores
from nearline.select._state import SelectorState


@dataclass(frozen=True)
class Cube(Rule):
    """b rows with pi_i = b/n that balance the columns `balance`, by the cube method; see `cube`.

    With scores as well, take rule "pps" with `sampler="cube"`.
    """

    name: ClassVar[str] = "cube"
    unbiased: ClassVar[bool] = True
    column: ClassVar[str | None] = None

    balance: tuple[str, ...] = ("loss",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "balance", balanced(self.balance))

    def _draw(
        self, scores: Scores, values: Floats, b: int, rng: np.random.Generator, state: SelectorState | None
    ) -> Draw:
        pi = np.full(len(values), b / len(values))
        return Draw(cube(pi, auxiliaries(scores, self.balance), rng), np.full(b, b / len(values)))
