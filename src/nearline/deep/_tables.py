"""Embedding tables that grow: one row per slot, the same first value whenever the row is added."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.functional import embedding_bag

from nearline.deep._inputs import Bags, Inputs

BLOCK = 1024
"""Rows are added in blocks, each drawn from its own seed, so that how a stream is cut does not show."""
SPREAD = 0.05
"""Standard deviation of a new row: near 0, which is what a value without a row contributes."""


class Table(torch.nn.Module):
    """One embedding per slot, of all fields together; grows without moving a number.

    Parameters
    ----------
    embedding
        Length of a row.
    seed
        Rows' first values follow from it and from their slot alone.
    """

    def __init__(self, embedding: int, seed: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.embedding, self.seed, self.sparse = embedding, seed, True
        self.weight = torch.nn.Parameter(torch.zeros(0, embedding, dtype=dtype))

    def grow(self, n_slots: int) -> bool:
        """Make room for slots below `n_slots`, at least doubling; says whether anything was added."""
        held = len(self.weight)
        return n_slots > held and self.reach(max(n_slots, 2 * held))

    def reach(self, rows: int) -> bool:
        """Have so many rows, whole blocks of them and no more; says whether anything was added."""
        blocks = range(len(self.weight) // BLOCK, -(-rows // BLOCK))
        if not blocks:
            return False
        new = np.concatenate([self._first_values(block) for block in blocks])
        self.weight.data = torch.cat([self.weight.data, torch.from_numpy(new).to(self.weight)])
        return True

    def _first_values(self, block: int) -> Any:
        drawn = np.random.default_rng([self.seed, 0x7AB1E, block]).standard_normal((BLOCK, self.embedding))
        return SPREAD * drawn

    def forward(self, bags: Bags) -> Inputs:
        """The weighted sum of each bag's rows, (n, F, k), with everything else that a network reads."""
        shape = (bags.rows, bags.fields, self.embedding)
        embedded = embedding_bag(
            bags.slots, self.weight, bags.offsets, mode="sum", sparse=self.sparse, per_sample_weights=bags.weights,
            include_last_offset=True,
        ) if bags.fields else bags.dense.new_zeros(shape)  # fmt: skip
        return Inputs(bags.dense, embedded.view(shape), bags.slots, bags.offsets, bags.weights, bags.entities)


class TableSteps:
    """Steps on the rows of a table that a mini-batch touched, and their state.

        adam (AdaGrad):  G_r += g_r²,  E_r −= rate · g_r / (√G_r + 1e-10)          sgd:  E_r −= rate · g_r

    Source: Duchi et al., JMLR 2011, eq. 1, diagonal form. Rows without a gradient do not move and cost nothing.
    """

    def __init__(self, table: Table, rule: str, rate: float) -> None:
        self.table, self.rate = table, rate
        self.squares = torch.zeros_like(table.weight.data) if rule == "adam" else None

    def grow(self) -> None:
        """Give new rows the state of rows that no step has touched."""
        if self.squares is not None:
            new = self.table.weight.data[len(self.squares) :]
            self.squares = torch.cat([self.squares, torch.zeros_like(new)])

    @torch.no_grad()
    def step(self) -> None:
        """Follow the table's gradient, and forget it."""
        found, self.table.weight.grad = self.table.weight.grad, None
        if found is None:
            return
        found = found.coalesce()
        rows, gradient = found.indices()[0], found.values()
        if self.squares is not None:
            self.squares[rows] += gradient.square()
            gradient = gradient / (self.squares[rows].sqrt() + 1e-10)
        self.table.weight.data[rows] -= self.rate * gradient
