"""The constant-size record of one served prediction: 24 bytes, more only for many classes or a gradient sketch."""

from __future__ import annotations

from enum import IntFlag
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearline._errors import DataError
from nearline.select._scores import Floats

SKETCH_LEVELS = 127


class Flag(IntFlag):
    """Where a record is in its life, one byte; 0 is served and nothing more."""

    PROVISIONAL = 1
    MATURE = 2
    SELECTED = 4
    SKIPPED = 8
    TRAINED = 16
    EXPIRED = 32
    CENSORED = 64
    HELD = 128


def record_type(half: bool = False, top_k: int = 0, sketch: int = 0, classes: bool = False) -> np.dtype[Any]:
    """The layout: id 8, time 4, prediction 4, version 2, pi 2, norm of h 2, flags 1, reserved 1 bytes.

    Parameters
    ----------
    half : bool
        A 2-byte prediction: enough to select by (error <= 0.004 for |z| < 16), not to replay bit for bit.
    top_k : int
        Classes stored with their log-probabilities, and sum p^2: 4 k + 2 bytes more.
    sketch : int
        K signed bytes and one scale, K + 2 bytes more.
    classes : bool
        The sketch of a multi-class model: 2 K + 2 bytes.

    Examples
    --------
    >>> record_type().itemsize, record_type(half=True).itemsize, record_type(sketch=16).itemsize
    (24, 22, 42)
    """
    fields: list[Any] = [
        ("id", "<u8"), ("time", "<u4"), ("prediction", "<f2" if half else "<f4"), ("version", "<u2"), ("pi", "<f2"),
        ("norm", "<f2"), ("flags", "u1"), ("reserved", "u1"),
    ]  # fmt: skip
    if top_k:
        fields += [("top_id", "<u2", (top_k,)), ("top_log_p", "<f2", (top_k,)), ("square", "<f2")]
    if sketch:
        fields += [("sketch", "i1", (2 * sketch if classes else sketch,)), ("scale", "<f2")]
    return np.dtype(fields)


RECORD = record_type()


def pack(layout: np.dtype[Any] = RECORD, **columns: Any) -> NDArray[Any]:
    """Records (n,) from columns by name; `sketch` is given in floats and brought to bytes with its scale.

    Raises
    ------
    DataError
        A column that the layout has not, or a number that does not fit into its bytes.

    Examples
    --------
    >>> rows = pack(id=[1, 2], time=[10, 11], prediction=[0.5, -2.0])
    >>> len(rows.tobytes()), unpack(rows.tobytes())["prediction"].tolist()
    (48, [0.5, -2.0])
    """
    n = max((len(np.atleast_1d(v)) for v in columns.values()), default=0)
    rows = np.zeros(n, layout)
    if "sketch" in columns:
        columns["sketch"], columns["scale"] = to_bytes(columns["sketch"])
    for name, value in columns.items():
        if name not in (layout.names or ()):
            raise DataError("the layout has no such column", column=name, fix=f"it has {', '.join(layout.names or ())}")
        _fits(name, np.asarray(value), layout[name].base)
        rows[name] = value
    return rows


def unpack(data: bytes | NDArray[Any], layout: np.dtype[Any] = RECORD) -> dict[str, NDArray[Any]]:
    """Columns by name from records or their bytes; a sketch comes back in floats.

    Raises
    ------
    DataError
        Bytes that are no whole number of records.
    """
    if isinstance(data, bytes):
        if len(data) % layout.itemsize:
            raise DataError(f"{len(data)} bytes are no whole number of records of {layout.itemsize}")
        data = np.frombuffer(data, layout)
    columns = {name: data[name] for name in data.dtype.names or () if name not in ("reserved", "scale")}
    if "sketch" in columns:
        columns["sketch"] = columns["sketch"] * data["scale"].astype(np.float64)[:, None]
    return columns


def to_bytes(sketch: Any) -> tuple[NDArray[np.int8], Floats]:
    """Signed bytes (n, K) and a scale (n,) each with byte * scale within half a scale of the sketch.

    >>> to_bytes([[1.0, -0.5]])[0]
    array([[127, -64]], dtype=int8)
    """
    t = np.asarray(sketch, dtype=np.float64)
    with np.errstate(over="ignore"):  # an infinite scale says that there is no sketch
        scale = (np.abs(t).max(axis=1) / SKETCH_LEVELS).astype(np.float16).astype(np.float64)
    steps = t / np.where(scale > 0, scale, 1.0)[:, None]
    return np.clip(np.rint(steps), -SKETCH_LEVELS, SKETCH_LEVELS).astype(np.int8), scale


def _fits(name: str, value: NDArray[Any], kind: np.dtype[Any]) -> None:
    least, most = (0, np.iinfo(kind).max) if kind.kind == "u" else (-np.inf, float(np.finfo("f2").max))
    if kind.kind == "i" or kind == np.dtype("<f4"):
        return
    if len(bad := np.flatnonzero((value < least) | (value > most))):
        row = int(bad[0]) if value.ndim == 1 else None
        raise DataError(f"{value.ravel()[bad[0]]} does not fit into {kind.itemsize} bytes", column=name, row=row)
