"""DeepGLMix: a network for all rows, and the random effects of a GLMix on top of its calibrated log-odds."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline._errors import ConfigError
from nearline.deep import _pair
from nearline.deep._architecture import Architecture
from nearline.deep._information import Information
from nearline.deep._network import Network
from nearline.deep._passes import Trained
from nearline.features import Design
from nearline.glmix import Convergence, GLMix, Learned, LearnedPriors, _links
from nearline.glmix._scoring import Scoring
from nearline.glmix._solve import solve
from nearline.schema import Rejects, read_table

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """From a network's logit to log-odds: shift + slope · logit.

    A network that has seen its rows several times is too sure of them; the slope says by how much.
    """

    shift: float = 0.0
    slope: float = 1.0

    def __call__(self, logit: Floats) -> Floats:
        """Calibrated log-odds (n)."""
        return self.shift + self.slope * logit


def calibrated(logit: Floats, design: Design, link: str) -> Calibration:
    """The calibration under which labels are likeliest, with a prior of one pseudo-row on (0, 1).

    Source: Platt (1999); rows must be ones that the network has not learned.
    """
    X = np.column_stack([np.ones_like(logit), logit])
    fit = solve(X, design.label, design.weight, design.offset, np.array([0.0, 1.0]), np.eye(2), _links.by_name(link))
    return Calibration(float(fit.theta[0]), float(fit.theta[1]))


def fit_network(
    network: Network, table: Any, *, epochs: int = 3, held_out: float = 0.1, warm: bool = False
) -> tuple[Trained, Calibration]:
    """Fit a network, and the calibration of what it says of rows that it has not learned yet.

    Parameters
    ----------
    held_out
        Last part of the table that measures the calibration before the network learns it too, in one pass; 0 leaves
        the network's logit as it is.
    warm
        Go on from the weights that the network has.
    """
    if not 0 <= held_out < 1:
        raise ConfigError(f"fit(held_out=...) is a part of the table in [0, 1), got {held_out!r}")
    first = table.num_rows - int(held_out * table.num_rows)
    trained = network.fit(table.slice(0, first), epochs=epochs, warm=warm)
    if first == table.num_rows:
        return trained, Calibration()
    last, _ = network.design(table.slice(first), learn=True)
    found = calibrated(network.decision_function(last) - last.offset, last, network.link)
    network.partial_fit(last)
    return trained, found


@dataclass(frozen=True, slots=True)
class Fitted:
    """What `DeepGLMix.fit` did, part by part."""

    network: Trained
    calibration: Calibration
    effects: Convergence


class DeepGLMix(Scoring):
    """A network's calibrated log-odds as the offset of a GLMix.

        η_n = offset_n + (shift + slope · network(x_n)) + b + Σ_r z_{r,n}ᵀ β_{r, id_r(n)}

    The two parts keep vocabularies of their own, so that the network can be trained in another process. The network is
    trained on the labels alone, as in GDMix; the effects learn what it leaves unexplained, and their fixed intercept b
    follows its calibration.

    Parameters
    ----------
    network
        The fixed part.
    effects
        A `GLMix` of the same link and label; usually ``GLMix(schema, random=[...])``, whose fixed part is an intercept.

    Examples
    --------
    >>> from nearline import GLMix, Random, Schema
    >>> schema = Schema(label="clicked")
    >>> model = DeepGLMix(Network(schema, ["price"]), GLMix(schema, random=[Random("user")]))
    >>> rows = {"user": [1, 2, 1, 2], "price": [1.0, 2.0, 3.0, 4.0], "clicked": [1, 0, 1, 0]}
    >>> fitted = model.fit(rows, epochs=1)
    >>> model.partial_fit(rows).rows, model.predict_proba(rows).shape
    (4, (4,))
    """

    def __init__(self, network: Network, effects: GLMix, *, calibration: Calibration | None = None) -> None:
        if network.link != effects.link or network.schema.label != effects.schema.label:
            raise ConfigError(
                f"network and effects must have one link and label; they have {network.link!r} and {effects.link!r}, "
                f"{network.schema.label!r} and {effects.schema.label!r}"
            )
        self.network, self.effects, self.calibration = network, effects, calibration or Calibration()
        self.blocks, self.encoder = effects.blocks, effects.encoder
        self.link, self.threads = effects.link, effects.threads

    def design(self, table: Any, *, learn: bool, divert: bool = False) -> tuple[Design, Rejects]:
        """Design of the effects, the network's calibrated log-odds in its offset; learns no weight of the network."""
        if isinstance(table, Design):
            return self.effects.design(table, learn=learn)
        table = read_table(table)
        fixed, bad = self.network.design(table, learn=False, divert=divert)
        good = np.delete(np.arange(table.num_rows), bad.rows)
        design, refused = self.effects.design(table.take(good) if len(bad) else table, learn=learn, divert=divert)
        log_odds = np.delete(self.calibration(self.network.decision_function(fixed) - fixed.offset), refused.rows)
        return replace(design, offset=design.offset + log_odds), _joined(bad, refused, good)

    def information(self, table: Any, *, sketch: int = 0) -> Information:
        """What is recorded of each prediction: the whole model's margin, the network's last layer."""
        table = read_table(table)
        design, _ = self.network.design(table, learn=False)
        recorded = self.network.information(design, sketch=sketch)
        effects, _ = self.effects.design(table, learn=False)
        offset = effects.offset + self.calibration(recorded.logit - design.offset)
        return replace(recorded, logit=self.effects.decision_function(replace(effects, offset=offset)))

    def fit(self, table: Any, *, epochs: int = 3, cycles: int = 20, held_out: float = 0.1) -> Fitted:
        """Fit the network, its calibration, then the effects on its log-odds (the batch layer).

        Parameters
        ----------
        epochs
            Passes of the network over the rows.
        cycles
            At most so many cycles over the effects' blocks.
        held_out
            Last part of the table that measures the calibration before the network learns it too, in one pass; 0
            leaves the network's logit as it is.
        """
        table = read_table(table)
        trained, self.calibration = fit_network(self.network, table, epochs=epochs, held_out=held_out)
        return Fitted(trained, self.calibration, self.effects.fit(self.design(table, learn=True)[0], cycles=cycles))

    def learn_priors(self, table: Any, **options: Any) -> LearnedPriors:
        """Learn the effects' priors from history, as `GLMix.learn_priors`, whose options these are."""
        return self.effects.learn_priors(self.design(table, learn=True)[0], **options)

    def partial_fit(self, table: Any, *, divert: bool = False, **options: Any) -> Learned:
        """Learn a batch of events with the effects (the speed layer); the network stays as it is.

        Options are those of `GLMix.partial_fit`.
        """
        design, rejects = self.design(table, learn=True, divert=divert)
        return replace(self.effects.partial_fit(design, **options), rejects=rejects)

    def with_network(self, network: Network, history: Any, *, calibration: Calibration | None = None) -> DeepGLMix:
        """The model with another network, its effects learned anew by replaying history under the new offsets.

        Every posterior returns to its prior and learns `history` in order: the result is, to the bit, the model that
        had the new network all along. This model stays as it is, and may go on serving meanwhile.

        Parameters
        ----------
        history
            All rows that the effects are to know: from the ledger, what they have learned so far.
        calibration
            Of the new network; the old one's by default.
        """
        effects = self.effects.replica()
        effects.reset()
        model = DeepGLMix(network, effects, calibration=calibration or self.calibration)
        model.partial_fit(history)
        return model

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write both parts to a folder; a reader finds the old pair or the new one, whole."""
        return _pair.save(self, Path(folder))

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], *, architecture: Architecture | None = None, device: str = "cpu"
    ) -> DeepGLMix:
        """Read what `save` wrote; a missing, truncated or altered file raises StateError."""
        return _pair.load(cls, Path(folder), architecture, device)

    def __repr__(self) -> str:
        return f"DeepGLMix({self.network!r}, {self.effects!r})"


def _joined(first: Rejects, then: Rejects, good: NDArray[np.int64]) -> Rejects:
    """What either part refused, as rows of the whole table; the second saw only the rows `good` to the first."""
    if not len(first) or not len(then):
        return first if len(first) else then
    rows = np.concatenate([first.rows, good[then.rows]])
    order, reasons = np.argsort(rows), (*first.reasons, *then.reasons)
    table = pa.concat_tables([first.table, then.table], promote_options="default").take(order)
    return Rejects(rows[order], tuple(reasons[i] for i in order), table)
