"""What the publish gate looks at: examples with their outcomes, and what each model says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearline._errors import DataError
from nearline.glmix._links import Link

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """Examples (n) that neither model had learned when it scored them: a hold-out, or progressive scores.

    Parameters
    ----------
    label : array (n)
    weight : array (n), optional
        1 each by default.
    entities : mapping of name to codes (n)
        Whose rows depend on each other: every interval is the widest over these. Without any, rows are independent.
    slices : mapping of name to values (n)
        Parts that are judged one by one, such as country or device.

    Raises `DataError` for lengths that differ, NaN labels and weights that are negative or not finite.

    >>> evidence = Evidence([1, 0, 1], slices={"device": ["app", "web", "app"]})
    >>> len(evidence), evidence.weight.tolist()
    (3, [1.0, 1.0, 1.0])
    """

    label: ArrayLike
    weight: ArrayLike | None = None
    entities: Mapping[str, ArrayLike] = field(default_factory=dict)
    slices: Mapping[str, ArrayLike] = field(default_factory=dict)

    def __post_init__(self) -> None:
        label = np.asarray(self.label, np.float64)
        weight = np.ones(len(label)) if self.weight is None else np.asarray(self.weight, np.float64)
        if label.ndim != 1 or np.isnan(label).any():
            raise DataError("must be one-dimensional without NaN", column="label", fix="drop rows without an outcome")
        if weight.shape != label.shape or not ((weight >= 0) & np.isfinite(weight)).all():
            raise DataError(f"must be {len(label)} finite numbers >= 0", column="weight")
        for kind in ("entities", "slices"):
            found = {name: np.asarray(values) for name, values in getattr(self, kind).items()}
            for name, values in found.items():
                if values.shape != label.shape:
                    raise DataError(f"has shape {values.shape}, label {label.shape}", column=name)
            object.__setattr__(self, kind, found)
        object.__setattr__(self, "label", label)
        object.__setattr__(self, "weight", weight)

    def __len__(self) -> int:
        return len(np.asarray(self.label))


@dataclass(frozen=True)
class Scores:
    """What one model says of the examples, and what it costs.

    Parameters
    ----------
    margin : array (n)
        Score on the link scale.
    latency : float, optional
        p99 of scoring one request, seconds, measured outside.
    size : float, optional
        Bytes.

    >>> Scores([0.5, -1.0]).margin.tolist()
    [0.5, -1.0]
    """

    margin: ArrayLike
    latency: float | None = None
    size: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "margin", np.asarray(self.margin, np.float64))


@dataclass(frozen=True, slots=True)
class Pair:
    """Both models on the same examples, as every check takes them.

    Attributes
    ----------
    label, weight, live, candidate
        y, w and the margins (n) of both.
    live_loss, candidate_loss
        Loss of each row: log loss, half the squared error, or half the Poisson deviance.
    entities, slices
        As in `Evidence`.
    """

    link: Link
    label: Floats
    weight: Floats
    live: Floats
    candidate: Floats
    live_loss: Floats
    candidate_loss: Floats
    entities: tuple[NDArray[np.int64], ...]
    slices: Mapping[str, NDArray[np.generic]]

    @classmethod
    def of(cls, link: Link, evidence: Evidence, live: Scores, candidate: Scores) -> Pair:
        """Losses of both models.

        Raises
        ------
        DataError
            A margin is missing or not finite, or a label does not suit the link.
        """
        y = link.labels(evidence.label)
        before, after = _margin("live", live, len(y)), _margin("candidate", candidate, len(y))
        entropy = np.where(y > 0, y * np.log(np.where(y > 0, y, 1.0)) - y, 0.0) if link.name == "log" else 0.0
        codes = tuple(_codes(np.asarray(values)) for values in evidence.entities.values())
        slices = {name: np.asarray(values) for name, values in evidence.slices.items()}
        return cls(
            link, y, np.asarray(evidence.weight), before, after, link.loss(y, before) + entropy,
            link.loss(y, after) + entropy, codes, slices,
        )  # fmt: skip

    def take(self, rows: NDArray[np.int64]) -> Pair:
        """Some of the examples, without slices."""
        return Pair(
            self.link, self.label[rows], self.weight[rows], self.live[rows], self.candidate[rows],
            self.live_loss[rows], self.candidate_loss[rows], tuple(codes[rows] for codes in self.entities), {},
        )  # fmt: skip


def _codes(values: NDArray[np.generic]) -> NDArray[np.int64]:
    """Dense codes; negative ones, entities of their own, stay."""
    if np.issubdtype(values.dtype, np.integer):
        return values.astype(np.int64)
    return np.asarray(np.unique(values, return_inverse=True)[1], np.int64)


def _margin(name: str, scores: Scores, n: int) -> Floats:
    margin = np.asarray(scores.margin)
    if margin.shape != (n,):
        raise DataError(f"has shape {margin.shape}, label ({n},)", column=name, fix="pass one margin per label")
    bad = np.flatnonzero(~np.isfinite(margin))
    if len(bad):
        raise DataError(f"{len(bad)} margins are not finite", column=name, row=int(bad[0]), fix="look at its features")
    return margin
