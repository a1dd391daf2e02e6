"""Scoring as a server does it: many small requests against a replica that changes between them.

`GLMix.decision_function` builds its kernel records per call, which costs more than scoring a hundred rows. A `Scorer`
keeps them, and renews what has moved after every change.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearline._errors import ConfigError, DataError
from nearline.features import Design
from nearline.glmix import _layout, _links, _posterior, _unseen
from nearline.glmix._model import GLMix
from nearline.glmix._state import Belief

Floats = NDArray[np.float64]

DRAWS = 256
"""Joint draws behind a propensity: its standard error is at most 1 / (2 √256) = 0.03."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of a request's rows on the link scale.

    Attributes
    ----------
    margin, fixed
        η (n), and offset + xᵀb (n), what the fixed effect alone says.
    variance
        Variance of η (n); NaN where it was not asked for.
    version
        Of the model at that moment; the scorer's own moves on while it learns.
    served
        What is answered (n): η through the scorer's `remap` at that moment, η itself where it has none.
    """

    margin: Floats
    fixed: Floats
    variance: Floats
    version: str
    served: Floats


@dataclass(frozen=True, slots=True)
class Draw:
    """A Thompson draw of a request's rows.

    Attributes
    ----------
    margin
        Score (n) under one joint draw of the coefficients.
    propensity
        Share of `draws` joint draws, this one among them, in which a row ranks first among the request's rows.
    seed, draws
        What reproduces both.
    """

    margin: Floats
    propensity: Floats
    seed: int
    draws: int


class Scorer:
    """One version of a model, ready to score small designs from several threads.

    Parameters
    ----------
    model
        The replica. Whoever changes it holds `lock` while it does so and calls `refresh` before letting go.
    version
        Its name, recorded with every prediction.

    Attributes
    ----------
    remap
        What scores pass through before they are answered; None where they are answered as they are.

    Notes
    -----
    Scores relax to the row's time as those of `GLMix.decision_function` do, and equal them bit for bit.

    Examples
    --------
    >>> from nearline import Fixed, Random, Schema
    >>> model = GLMix(Schema(label="liked"), fixed=Fixed("gender"), random=[Random("user_id")])
    >>> events = {"user_id": [1, 1, 2], "gender": ["F", "F", "M"], "liked": [1, 1, 0]}
    >>> _ = model.partial_fit(events)
    >>> scorer = Scorer(model, "1.0.3")
    >>> design = model.design(events, learn=False)[0]
    >>> bool(np.all(scorer.score(design).margin == model.decision_function(events)))
    True
    """

    def __init__(self, model: GLMix, version: str) -> None:
        self.model, self.version = model, version
        self.lock = threading.RLock()
        self.remap: Callable[[Floats], Floats] | None = None
        self._link = _links.by_name(model.link)
        self._shape: list[int] = []
        self._beliefs: list[Belief] = []
        self._widest = 16
        self.refresh()

    def refresh(self) -> None:
        """Follow a change of the model: growth, other priors, or arrays that have moved.

        Only addresses are renewed where neither dimensions nor beliefs have changed.
        """
        with self.lock:
            blocks = self.model.blocks
            shape = [self.model.encoder.n_slots, *(n for b in blocks for n in (b.d, b.kind, b.known_slots))]
            beliefs = [block.belief for block in blocks]
            if shape != self._shape or any(a is not b for a, b in zip(beliefs, self._beliefs)):
                self._shape, self._beliefs = shape, beliefs
                self._prepare()
            else:
                self._move()
            self._known = np.array([block.entities for block in blocks], np.int64)
            self._least = min(block.known_slots for block in blocks)

    def _prepare(self) -> None:
        """Kernel records from scratch."""
        from nearline.glmix._kernels._serve import Prepared

        blocks = self.model.blocks
        record = _layout.kernel_blocks(blocks, self._shape[0])
        sizes = (len(blocks), record.mu0.shape[1], record.cov0.shape[1], self._widest)
        self._prepared, self._keys = Prepared(record, sizes), [_layout.key_of(block) for block in blocks]

    def _move(self) -> None:
        """Renew the addresses of the posteriors."""
        from nearline.glmix._kernels._serve import ADDRESSES

        found = [(block.mean, block.cov, block.last, block.counts) for block in self.model.blocks]
        addresses = [[array.ctypes.data for array in arrays] for arrays in zip(*found)]
        self._prepared.move(dict(zip(ADDRESSES, addresses)))

    def warm(self) -> None:
        """Score one empty row: what has to be compiled is compiled now, and not while a request waits."""
        one, none = np.ones(1), np.full(1, -1, np.int32)
        codes = dict.fromkeys(self.model.encoder.keys, none)
        self.score(Design(np.array([0, 1]), np.zeros(1, np.int32), one, codes, one, one, 0.0 * one, 0.0 * one))

    def score(self, design: Design, *, variances: bool = False) -> Scores:
        """Score of every row, of the fixed effect alone, and its variance where asked for.

        Raises
        ------
        DataError
            The design was made by another model.
        """
        n = design.rows
        out = np.empty((3, n))
        if not variances:
            out[2].fill(np.nan)
        with self.lock:
            if n:
                blocks, encoder = self.model.blocks, self.model.encoder
                if self._least != encoder.n_slots:
                    design = _layout.as_known(design, blocks, encoder)
                self._serve(design, out, variances)
                if design.without_slot is not None:
                    _unseen.add(blocks, design, out[0], out[2])
                    _unseen.add(blocks[:1], design, out[1], np.empty(n))
            return Scores(out[0], out[1], out[2], self.version, self.remapped(out[0]))

    def _serve(self, design: Design, out: Floats, variances: bool) -> None:
        rows = (design.indptr, design.indices, design.values, design.offset, design.time)
        entities = np.empty((len(self._keys), design.rows), np.int32)
        for r, key in enumerate(self._keys):
            entities[r] = 0 if key is None else design.entities[key]
        if self._prepared.score(rows, entities, self._known, out, variances):
            return
        if int(np.maximum.reduce(design.indices)) >= self._shape[0]:
            raise DataError("the design was made by another model", fix="encode it with the served model's encoder")
        self._widest = 2 * int(np.maximum.reduce(np.diff(design.indptr)))
        self._prepare()
        self._prepared.score(rows, entities, self._known, out, variances)

    def remapped(self, margin: Floats) -> Floats:
        """Scores (n) through `remap`, where there is one."""
        return margin if self.remap is None else self.remap(margin)

    def expected(self, margin: Floats) -> Floats:
        """Expected label (n) at a margin: probability, mean or rate."""
        return self._link.mean(margin)

    def sample(self, design: Design, *, scale: float = 1.0, seed: int = 0, draws: int = DRAWS) -> Draw:
        """Thompson draw of the scores, and how likely each row is to rank first under such a draw.

            θ̃ = θ + √scale · V^{1/2} ξ,  ξ ~ N(0, I) from `seed`;    propensity_n = share of draws with n = argmax η̃

        Raises
        ------
        ConfigError
            When draws < 1, or scale is negative or not finite.
        """
        if draws < 1 or not 0 <= scale < float("inf"):
            raise ConfigError(f"sample(draws={draws}, scale={scale}) needs draws >= 1 and a finite scale >= 0")
        rng = np.random.default_rng(seed)
        with self.lock:
            z = _posterior.sample(self.model.blocks, design, draws, scale, rng)
        if not design.rows:
            return Draw(np.zeros(0), np.zeros(0), seed, draws)
        first = np.bincount(z.argmax(axis=1), minlength=design.rows)
        return Draw(z[0], first / draws, seed, draws)

    def interval(self, design: Design, *, level: float = 0.9) -> Floats:
        """Credible interval (n, 2) of the expected label; see `GLMix.interval`."""
        with self.lock:
            return self.model.interval(design, level=level)

    def explain(self, design: Design) -> list[list[_posterior.Contribution]]:
        """Contributions of every effect and feature to every row's score; see `GLMix.explain`."""
        with self.lock:
            return self.model.explain(design)
