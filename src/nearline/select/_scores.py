"""What is known of the rows of a window before any of them is loaded: one column per recorded fact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nearline._errors import DataError

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]

_KINDS: dict[str, type] = {"slice": np.int64, "flags": np.uint8, "id": np.uint64, "held": np.bool_}


@dataclass(frozen=True, eq=False)
class Scores:
    """n rows as recorded at serving and priced at label time; no features, so that choosing loads none.

    Parameters
    ----------
    loss : array (n,), optional
        l_i, priced from the recorded prediction.
    error : array (n,), optional
        e_i = prediction - label.
    score : array (n,), optional
        s_i >= 0, the norm of the row's gradient, or what stands for it.
    label : array (n,), optional
        What happened.
    age : array (n,), optional
        Seconds since the prediction was served.
    lag : array (n,), optional
        Versions between the one that served the row and the trainer's.
    sketch : array (n, K), optional
        A random projection of the row's gradient; one column may come flat.
    slice : array (n,) of int, optional
        Code of the group that a row belongs to.
    leverage : array (n,), optional
        How much of the model rests on the row: large where its features are rare (`nearline.deep.Network.leverage`).
        Relative.
    maturity : array (n,), optional
        a_i in [0, 1]: how sure it is that the label stays. Losses, scores and weights are multiplied by it.
    irreducible : array (n,), optional
        The loss of a model trained on held-out data; `rho_loss` subtracts it.
    flags : array (n,) of uint8, optional
        See `Flag`.
    id : array (n,) of uint64, optional
        The prediction's number.
    held : array (n,) of bool, optional
        Rows that are never trained on, as `nearline.gate.held_out` says; `Policy` leaves them out.

    Raises
    ------
    DataError
        No column, or columns of different lengths.

    Examples
    --------
    >>> scores = Scores(loss=[0.1, 2.0, 0.3], label=[0, 1, 0])
    >>> len(scores), scores.take([1]).loss
    (3, array([2.]))
    """

    loss: Any = None
    error: Any = None
    score: Any = None
    label: Any = None
    age: Any = None
    lag: Any = None
    sketch: Any = None
    slice: Any = None
    leverage: Any = None
    maturity: Any = None
    irreducible: Any = None
    flags: Any = None
    id: Any = None
    held: Any = None

    def __post_init__(self) -> None:
        for name, value in self._given():
            object.__setattr__(self, name, np.asarray(value, dtype=_KINDS.get(name, np.float64)))
        if self.sketch is not None and self.sketch.ndim == 1:
            object.__setattr__(self, "sketch", self.sketch[:, None])
        lengths = {name: len(value) for name, value in self._given()}
        if len(set(lengths.values())) != 1:
            raise DataError(f"columns of lengths {lengths}", fix="give at least one column, all with one entry a row")

    def _given(self) -> list[tuple[str, Any]]:
        return [(f.name, getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) is not None]

    def __len__(self) -> int:
        return len(self._given()[0][1])

    def column(self, name: str, user: str = "this rule") -> Any:
        """The column `name`; a `DataError` that says who needs it when it was not given."""
        value = getattr(self, name)
        if value is None:
            raise DataError(f"{user} needs it", column=name, fix=f"give Scores(..., {name}=...)")
        return value

    def take(self, index: Any) -> Scores:
        """The rows at `index`, every column."""
        return self._each(lambda value: value[index])

    def matured(self) -> Scores:
        """Losses and scores times maturity, a_i l_i and a_i s_i; itself where no maturity was given."""
        if self.maturity is None:
            return self
        weighed = {name: getattr(self, name) for name in ("loss", "score", "irreducible")}
        return replace(self, **{name: v * self.maturity for name, v in weighed.items() if v is not None})

    def _each(self, change: Callable[[Any], Any]) -> Scores:
        return replace(self, **{name: change(value) for name, value in self._given()})


COLUMNS = tuple(field.name for field in fields(Scores))
"""Names of the columns."""


def known(values: Floats, floor: float = -np.inf) -> tuple[Floats, Bools]:
    """Values with the unknown ones (NaN, infinite, below `floor`) at the mean of the others, and which were unknown.

    >>> known(np.array([1.0, np.nan, 3.0]))
    (array([1., 2., 3.]), array([False,  True, False]))
    """
    unknown = ~np.isfinite(values) | (values < floor)
    if not unknown.any():
        return values, unknown
    seen = values[~unknown]
    return np.where(unknown, np.mean(seen) if seen.size else 0.0, values), unknown


def ascending(values: Floats) -> Ints:
    """Positions by ascending value, ties in the order given.

    The fast sort's order of ties is the machine's own; the stable one, three times slower, serves where there are any.
    """
    order = np.argsort(values)
    v = values[order]
    return np.argsort(values, kind="stable") if (v[1:] == v[:-1]).any() else order


def nearest_to(points: Floats, values: Floats) -> Ints:
    """For every point the position of the nearest of the ascending `values`."""
    right = np.searchsorted(values, points).clip(1, max(len(values) - 1, 1))
    left = right - 1
    right = np.minimum(right, len(values) - 1)
    return np.where(points - values[left] <= values[right] - points, left, right)


def scaled(values: Floats) -> Floats:
    """Values divided by the largest magnitude, so that sums and squares stay in range; zeros stay."""
    return values / (float(np.abs(values).max(initial=0.0)) or 1.0)


def standardised(values: Floats) -> Floats:
    """Values with mean 0 and standard deviation 1; zeros where all are equal.

    >>> standardised(np.array([1.0, 3.0]))
    array([-1.,  1.])
    """
    x = scaled(values)
    x = x - x.mean()
    spread = float(x.std())
    return x / spread if spread > 0 else np.zeros_like(x)
