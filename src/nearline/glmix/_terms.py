"""Each block's share of every row's score, and each block's design given the other blocks' means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nearline.features import Design
from nearline.glmix import _layout
from nearline.glmix._block import LocalDesign
from nearline.glmix._products import Partner
from nearline.glmix._state import Block

Floats = NDArray[np.float64]


class Terms:
    """The additive parts of the scores of one design, kept current while blocks are solved one after the other.

        η_n = offset_n + Σ_r term_{r,n},   term_{r,n} = z_{r,n}ᵀ μ_{r,e},   term of loadings l: μ_{of,e'}ᵀ γ_{l,e}

    Updating two blocks from the same stale offsets would let both explain the same residual; here the offset of a block
    is always made of the others' current terms.
    """

    def __init__(self, blocks: Sequence[Block], n_slots: int, design: Design) -> None:
        self.blocks, self.design, self.of = blocks, design, _layout.targets(blocks)
        self._local = [_layout.local_dimensions(block, n_slots) for block in blocks]
        self.codes = [_layout.entity_codes(block, design) for block in blocks]
        self._sparse = [self._select(r) for r in range(len(blocks))]
        self.terms = [self._term(r) for r in range(len(blocks))]

    def _select(self, r: int) -> LocalDesign:
        """Local design of block r's own features."""
        from nearline.glmix._kernels._csr import select

        design = self.design
        entries = int(design.indptr[-1] - design.indptr[0])
        ends, places, values = np.empty(design.rows + 1, np.int64), np.empty(entries, np.int32), np.empty(entries)
        total = select(design.indptr, design.indices, design.values, self._local[r], ends, places, values)
        return LocalDesign(ends, places[:total], values[:total])

    def _term(self, r: int) -> Floats:
        from nearline.glmix._kernels._csr import row_terms

        if self.of[r] >= 0:
            target = self.of[r]
            return np.asarray(np.einsum("nd,nd->n", self._means(r), self._means(target)))
        sparse, term = self._sparse[r], np.empty(self.design.rows)
        row_terms(sparse.indptr, sparse.indices, sparse.values, self.codes[r], self.blocks[r].mean, term)
        return term

    def _means(self, r: int) -> Floats:
        return self.blocks[r].mean[self.codes[r]].astype(np.float64)

    def loaders(self, r: int) -> list[int]:
        """The loadings blocks that load on block r."""
        return [q for q, of in enumerate(self.of) if of == r]

    def partners(self, r: int) -> list[Partner]:
        """The blocks in a product with block r; for loadings, with what the other side acts on beside them."""
        if self.of[r] < 0:
            return [Partner(self.blocks[q], self.codes[q], None) for q in self.loaders(r)]
        of = self.of[r]
        return [Partner(self.blocks[of], self.codes[of], self.local_design(of).values - self._means(r))]

    def local_design(self, r: int) -> LocalDesign:
        """Block r's design: its features and the loadings that act on it; for loadings, the other's coefficients."""
        if self.of[r] >= 0:
            return LocalDesign.dense(self._means(self.of[r]))
        sparse = self._sparse[r]
        if not self.loaders(r):
            return sparse
        X = np.zeros((self.design.rows, self.blocks[r].d))
        rows = np.repeat(np.arange(self.design.rows), np.diff(sparse.indptr))
        np.add.at(X, (rows, sparse.indices), sparse.values)
        for q in self.loaders(r):
            X += self._means(q)
        return LocalDesign.dense(X)

    def offset(self, r: int) -> Floats:
        """Everything in η but block r; the products that r shares with its loadings are r's own."""
        own = {r, *self.loaders(r)}
        return self.design.offset + sum(term for q, term in enumerate(self.terms) if q not in own)

    def refresh(self, r: int) -> None:
        """Recompute what changed when block r was solved."""
        for q in (r, *self.loaders(r)):
            self.terms[q] = self._term(q)

    @property
    def margin(self) -> Floats:
        """η (n)."""
        return self.design.offset + sum(self.terms)
