"""Elec2: electricity prices of New South Wales, a classic of concept drift."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nearline._errors import StateError
from nearline.datasets._folder import locate
from nearline.datasets._text import parse_text

_COLUMNS = {
    "date": pa.float64(), "day": pa.int8(), "period": pa.float64(), "nswprice": pa.float64(), "nswdemand": pa.float64(),
    "vicprice": pa.float64(), "vicdemand": pa.float64(), "transfer": pa.float64(),
}  # fmt: skip
_FIRST = np.datetime64("1996-05-07T00:00", "s").astype(np.int64)
_HALF_HOUR = 1800


def elec2(folder: str | Path | None = None) -> pa.Table:
    """Elec2: 45,312 half hours from 7 May 1996, in order, and whether the price is above its mean of the last 24 hours.

    Columns: timestamp (int64, seconds; local time read as UTC), date, day (int8, 1 = Monday), period, nswprice,
    nswdemand, vicprice, vicdemand, transfer (all but day scaled to [0, 1]) and class_up (int8). The time is not in the
    original: the first row is 1996-05-07 00:00 and each next one is 30 minutes later. `date` and `nswprice` are usually
    left out.

    Layouts: `elec2/electricity.parquet`, or MOA's `elecNormNew.arff` (OpenML: `electricity-normalized.arff`). Raises
    `StateError` when none is there or the file is damaged. Free for research with citation: M. Harries, "SPLICE-2
    comparative evaluation: Electricity pricing", University of New South Wales, 1999.

    >>> from nearline import datasets
    >>> datasets.elec2().num_rows  # doctest: +SKIP
    45312
    """
    layouts = {
        "parquet": ("electricity.parquet",),
        "moa": ("elecNormNew.arff",),
        "openml": ("electricity-normalized.arff",),
    }
    layout, place = locate("elec2", folder, layouts, ("elec2", "elecNormNew"))
    path = place / layouts[layout][0]
    table = pq.read_table(path) if layout == "parquet" else _arff(path)
    columns = {"timestamp": _FIRST + _HALF_HOUR * np.arange(table.num_rows, dtype=np.int64)}
    columns |= {name: pc.cast(table[name], kind) for name, kind in (_COLUMNS | {"class_up": pa.int8()}).items()}
    return pa.table(columns).combine_chunks()


def _arff(path: Path) -> pa.Table:
    lines = [line for line in path.read_text("latin-1").splitlines() if line.strip() and not line.startswith("%")]
    start = next((k for k, line in enumerate(lines) if line.strip().lower() == "@data"), None)
    if start is None:
        raise StateError(f"{path} has no @data line; fetch it again")
    table = parse_text("\n".join(lines[start + 1 :]).replace("'", ""), ",", _COLUMNS | {"class": pa.string()}, path)
    return table.append_column("class_up", pc.cast(pc.equal(table["class"], "UP"), pa.int8()))
