"""GLMix: a generalised linear mixed model that learns from a stream."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nearline._errors import ConfigError
from nearline.features import Design, Encoder
from nearline.glmix import _batch, _correct, _declared, _layout, _posterior, _priors, _save, _stream, _try_learn
from nearline.glmix._correct import Corrections
from nearline.glmix._effects import Fixed, Loadings, Random
from nearline.glmix._fit._report import Convergence
from nearline.glmix._learned import LearnedEvents
from nearline.glmix._replay import Progress
from nearline.glmix._safety import Safety
from nearline.glmix._scoring import Scoring
from nearline.glmix._state import Belief, Block
from nearline.glmix._stream import Learned
from nearline.glmix._try_learn import Verdicts
from nearline.glmix._update import Updating
from nearline.schema import Checked, Rejects, Schema

Floats = NDArray[np.float64]
Mode = Literal["event", "minibatch"]


class GLMix(Scoring, Updating):
    """One fixed effect and any number of random effects, with a Gaussian posterior over every coefficient.

        η_n = offset_n + x_nᵀ b + Σ_r z_{r,n}ᵀ β_{r, id_r(n)},      E[y_n] = link⁻¹(η_n)

    Parameters
    ----------
    schema
        What the columns are for.
    fixed, random
        The effects; see `Fixed`, `Random`, `Loadings`.
    link
        ``"logit"`` (labels 0/1), ``"identity"`` (reals) or ``"log"`` (counts).
    mode
        How `partial_fit` learns: ``"event"`` (one joint update of all blocks per event) or ``"minibatch"`` (one solve
        per entity and block, after Lambda Learner).
    dtype
        Storage of posteriors, ``"float64"`` or ``"float32"``; arithmetic is in float64 either way.
    dispersion
        Noise variance φ of the identity link.
    threads
        Threads for scoring and minibatch updates; the results do not depend on it.
    refresh_every
        Re-estimate the random effects' priors from their posteriors after every so many events (`refresh_priors`).

    Notes
    -----
    Event mode is exact for the identity link up to the cross-block covariance that it drops, and gives the same bits
    however a stream is cut into calls. A standard deviation this
    model reports is that of the block's own posterior (conditional on the others'); see ``docs/model.md``.

    References
    ----------
    Zhang et al., GLMix (KDD 2016); Ramanath et al., Lambda Learner (arXiv 2010.05154), eq. 4-6.

    Examples
    --------
    >>> model = GLMix(Schema(label="liked"), fixed=Fixed("gender"), random=[Random("user_id")])
    >>> events = {"user_id": [1, 1, 2], "gender": ["F", "F", "M"], "liked": [1, 1, 0]}
    >>> model.partial_fit(events).rows
    3
    >>> bool(model.predict_proba(events)[0] > 0.6)
    True
    """

    def __init__(
        self,
        schema: Schema,
        fixed: Fixed | None = None,
        random: Sequence[Random | Loadings] = (),
        *,
        link: str = "logit",
        mode: Mode = "event",
        dtype: Literal["float64", "float32"] = "float64",
        dispersion: float = 1.0,
        threads: int = 1,
        refresh_every: int | None = None,
    ) -> None:
        self.schema, self.fixed, self.random = schema, fixed or Fixed(), tuple(random)
        self.link, self.mode, self.dtype, self.dispersion, self.threads = link, mode, dtype, dispersion, threads
        self.refresh_every, self.events_learned = refresh_every, 0
        _declared.check_settings(self)
        effects = _declared.with_parents(self.fixed, self.random)
        _layout.check_loadings(effects)
        self.encoder = Encoder(schema, _declared.features(effects), _declared.keys(effects))
        self.blocks = [Block(effect, dtype) for effect in effects]
        _layout.grow(self.blocks, self.encoder)

    # -- from tables to designs ---------------------------------------------------------------------------------------

    def design(self, table: Any, *, learn: bool, divert: bool = False) -> tuple[Design, Rejects]:
        """Check and encode a table, once for several calls: every method takes a design for a table.

        With `learn`, labels are needed and new levels and entities join the model.
        """
        if isinstance(table, Design):
            _layout.check_design(table, self.encoder, learn=learn)
            if learn:
                _layout.grow(self.blocks, self.encoder)
            return _layout.as_known(table, self.blocks, self.encoder), _NO_REJECTS
        checked: Checked = self.encoder.check(table, link=self.link, need_label=learn, divert=divert)
        design = self.encoder.encode(checked, grow=learn)
        if learn:
            _layout.grow(self.blocks, self.encoder)
        return self._with_dispersion(_layout.as_known(design, self.blocks, self.encoder)), checked.rejects

    def _with_dispersion(self, design: Design) -> Design:
        if self.link != "identity" or self.dispersion == 1.0:
            return design
        return replace(design, weight=design.weight / self.dispersion)

    # -- learning -----------------------------------------------------------------------------------------------------

    def partial_fit(
        self, table: Any, *, mode: Mode | None = None, divert: bool = False, cycles: int = 1, locked: Sequence[str] = ()
    ) -> Learned:
        """Learn a batch of events, in the order given (the speed layer).

        Parameters
        ----------
        table
            Anything with the Arrow PyCapsule interface, or a mapping of columns.
        mode
            ``"event"`` or ``"minibatch"``; the model's own by default.
        divert
            Put bad rows aside in `Learned.rejects` instead of raising at the first.
        cycles
            Passes over the blocks in minibatch mode; the priors stay those of before the batch.
        locked
            Names of effects that are scored but not updated: the others learn as if their coefficients were known.

        Raises
        ------
        DataError
            At the first bad row, unless `divert`; nothing is learned then.
        """
        _declared.check_update(mode, self.mode, cycles)
        names = self._names(locked)
        design, rejects = self.design(table, learn=True, divert=divert)
        return _stream.update(self, design, mode or self.mode, cycles, names, rejects)

    def progressive(self, table: Any, *, every: int | str = 1, variances: bool = False) -> Progress:
        """Predict every row, then learn it (progressive validation, one pass), in the model's own mode.

        Parameters
        ----------
        every
            Rows (``1``) or event time (``"1h"``) between updates; between two updates the model stands still.
        variances
            Also compute the variance of every score.
        """
        design, _ = self.design(table, learn=True)
        return _stream.replay(self, design, self.mode, every, variances)

    def try_learn(self, table: Any, safety: Safety | None = None, *, shares: bool = False) -> Verdicts:
        """Learn a tick of events in the model's mode, or leave every posterior as it was, to the bit.

        Rows that are not finite, whose score is beyond the limit or whose step is too long are refused by name; a tick
        whose outcomes the model holds to be near impossible is rejected as a whole. Vocabulary that a rejected tick
        brought stays known, at the prior.

        Parameters
        ----------
        safety
            The limits; see `Safety`.
        shares
            Also record each block's part of every score, for closer corrections long after the event.

        Examples
        --------
        >>> model = GLMix(Schema(label="liked"), random=[Random("user_id")])
        >>> verdicts = model.try_learn({"user_id": [1, 2], "liked": [1, 0]})
        >>> verdicts.accepted, verdicts.status.tolist()
        (True, [0, 0])
        """
        return _try_learn.learn(self, table, safety or Safety(), shares)

    def retract(self, table: Any, events: LearnedEvents) -> Corrections:
        """Undo what events taught: every posterior as if they had never been learned.

        Exact right after the event, and for the identity link with one effect at any time; otherwise within a small
        part of a posterior standard deviation (``docs/model.md``). What was forgotten since is not taken back.

        Parameters
        ----------
        table
            The rows as they were learned: their features and keys (labels are not needed), or a design.
        events
            What `partial_fit` or `try_learn` returned for those rows.

        Raises
        ------
        DataError
            When rows and events are not as many.

        Examples
        --------
        >>> model = GLMix(Schema(label="liked"), random=[Random("user_id")])
        >>> rows = {"user_id": [1], "liked": [1]}
        >>> learned = model.partial_fit(rows)
        >>> model.retract(rows, learned.events).applied
        1
        >>> round(float(model.predict_proba(rows)[0]), 12)
        0.5
        """
        return _correct.verb(self, table, events)

    def correct(self, table: Any, label: Any, events: LearnedEvents) -> Corrections:
        """Replace the labels of events that were learned: every posterior as if they had come with the new ones.

            θ' = θ + w Δy V z, V unchanged (identity link; spread over several blocks as event mode does)

        Parameters
        ----------
        table, events
            As for `retract`; the old labels are in `events`.
        label
            The new labels (n).

        Returns
        -------
        Corrections
            What was applied, and the events to store in place of the old ones.
        """
        return _correct.verb(self, table, events, label)

    def fit(
        self, table: Any, *, cycles: int = 20, tolerance: float = 1e-6, locked: Sequence[str] = (), warm: bool = False,
        order: Sequence[str] = (), progress: bool = False, clock: Callable[[], float] = time.perf_counter,
    ) -> Convergence:  # fmt: skip
        """Fit all blocks to history from their priors (the batch layer), by block coordinate descent.

            Φ(Θ) = Σ_n w_n ℓ(y_n, η_n) + Σ_blocks ½ (θ − μ0)ᵀ Λ0 (θ − μ0)

        What each effect asks for besides is in `FixedFit` and `RandomFit`.

        Parameters
        ----------
        cycles, tolerance
            At most so many cycles over the blocks, fewer once Φ falls by less than `tolerance` of itself.
        locked
            Names of effects that are scored but not solved (partial retraining).
        warm
            Start the descent at the current coefficients: the same optimum, in fewer cycles when history grew.
        order
            Names of the effects to solve first in every cycle; the others follow as declared.
        progress, clock
            Show a progress bar; what tells the seconds of the report.

        Returns
        -------
        Convergence
            Φ after every cycle, every block's solve, and what was not solved.

        Warns
        -----
        NearlineWarning
            When all labels are equal.
        """
        _declared.check_fit(self, cycles, order)
        design, _ = self.design(table, learn=True)
        _declared.warn_of_one_label(design)
        plan = _batch.Plan(cycles, tolerance, self._names(locked), self.threads, warm, tuple(order), progress, clock)
        return _batch.fit(self.blocks, self.encoder.n_slots, design, self.link, plan)

    def learn_priors(
        self,
        table: Any,
        *,
        method: Literal["one_step", "evidence"] = "one_step",
        rounds: int = 3,
        structure: Literal["scalar", "diagonal", "full"] = "full",
        walks: bool = True,
        half_lives: bool = True,
        every: int | str | None = None,
        progress: bool = False,
    ) -> _priors.LearnedPriors:
        """Learn priors, random-walk noise and half-lives from history (empirical Bayes); no hand-set λ.

        Parameters
        ----------
        method
            ``"one_step"`` minimises the log loss of predicting every event before learning it, by replaying `table`;
            ``"evidence"`` maximises the marginal likelihood of a batch fit, λ ← Σ(d − λ tr V) / Σ‖θ‖² and its
            diagonal and full forms.
        rounds
            Passes over the settings (``one_step``) or evidence iterations × 10 (``evidence``).
        structure
            How a random effect's prior covariance is modelled.
        walks, half_lives
            Whether random-walk noise and half-lives are searched (``one_step``).
        every
            Rows (``1``) or event time (``"1h"``) between the updates of a replay, which is in the model's own mode
            (``one_step``); by default one row by event, and a hundredth of history by minibatch.
        progress
            Show a progress bar.

        Returns
        -------
        LearnedPriors
            What was tried and chosen. The model keeps its vocabulary, takes the new priors and forgets what it learned.
        """
        design, _ = self.design(table, learn=True)
        return _priors.learn(
            self.blocks, self.encoder.n_slots, design, self.link, method, rounds, structure, walks, half_lives,
            progress, self.threads, self.mode, every,
        )  # fmt: skip

    def refresh_priors(self, *, least: int = _stream.LEAST) -> dict[str, Belief]:
        """Re-estimate the random effects' priors from their current posteriors and re-base every posterior on them.

            μ0 ← mean_e θ_e,   Λ0⁻¹ ← mean_e [V_e + (θ_e − μ0)(θ_e − μ0)ᵀ],   H_e ← H_e − Λ0_old + Λ0_new

        The mean moves only on columns that the fixed effect does not have: there it is the fixed effect's to carry.
        Effects with fewer than `least` touched entities keep their prior. What the data said is kept exactly.
        """
        return _priors.refresh(self.blocks, least)

    # -- what is inside -----------------------------------------------------------------------------------------------

    def coefficients(self, effect: str, entity: Any = None) -> list[_posterior.Coefficient]:
        """Posterior mean and standard deviation of an effect's coefficients, for one entity of a random effect."""
        block = self.block(effect)
        names = _posterior.dimension_names(self.blocks, self.encoder, self.blocks.index(block))
        return _posterior.coefficients(block, names, _layout.code_of(block, self.encoder, entity))

    def block(self, name: str) -> Block:
        """The posteriors of one effect."""
        for block in self.blocks:
            if block.name == name:
                return block
        raise ConfigError(f"no effect is named {name!r}; this model has {[block.name for block in self.blocks]}")

    def nbytes(self) -> int:
        """Bytes held by the posteriors of all known entities."""
        return sum(block.nbytes() for block in self.blocks)

    def fork(self) -> GLMix:
        """An independent model with the same posteriors; the vocabulary, which only grows, is shared."""
        twin = GLMix(
            self.schema, self.fixed, self.random, link=self.link, mode=self.mode, dtype=self.dtype,
            dispersion=self.dispersion, threads=self.threads, refresh_every=self.refresh_every,
        )  # fmt: skip
        twin.events_learned = self.events_learned
        twin.encoder, twin.blocks = self.encoder, [block.copy() for block in self.blocks]
        return twin

    def replica(self) -> GLMix:
        """A fork with a vocabulary of its own: it changes by a `Delta` or by what it learns itself, not otherwise."""
        twin = self.fork()
        twin.encoder = self.encoder.copy()
        return twin

    def reset(self) -> None:
        """Return every posterior to its prior; vocabulary and priors stay."""
        self.events_learned = 0
        for block in self.blocks:
            block.reset()

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the model to a folder: safetensors for arrays, a JSON manifest with checksums; never a pickle."""
        return _save.save(self, Path(folder))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> GLMix:
        """Read what `save` wrote; a missing, truncated or altered file raises StateError."""
        return _save.load(cls, Path(folder))

    def _names(self, names: Sequence[str]) -> frozenset[str]:
        for name in names:
            self.block(name)
        return frozenset(names)

    def __repr__(self) -> str:
        parts = ", ".join(f"{block.name}: {block.entities:,} × {block.d}" for block in self.blocks)
        return f"GLMix(link={self.link!r}, {parts})"


_NO_REJECTS = Rejects(np.zeros(0, np.int64), (), None)
