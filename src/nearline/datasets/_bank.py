"""Bank Marketing: phone calls of a Portuguese bank, with strong drift."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from nearline._errors import StateError
from nearline.datasets._folder import locate
from nearline.datasets._text import parse_text

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_COLUMNS = {
    "age": pa.int8(), "job": pa.string(), "marital": pa.string(), "education": pa.string(), "default": pa.string(),
    "balance": pa.int32(), "housing": pa.string(), "loan": pa.string(), "contact": pa.string(), "day": pa.int8(),
    "month": pa.string(), "duration": pa.int32(), "campaign": pa.int32(), "pdays": pa.int32(), "previous": pa.int32(),
    "poutcome": pa.string(),
}  # fmt: skip


def bank_marketing(folder: str | Path | None = None) -> pa.Table:
    """Bank Marketing: 45,211 calls from May 2008 to November 2010 in order of date, and whether the client subscribed.

    Columns: timestamp (int64, seconds, midnight UTC), date_derived (date), then those of the original (age, job,
    marital, education, default, balance, housing, loan, contact, day, month, duration, campaign, pdays, previous,
    poutcome) and y (int8, 1 = subscribed). The year is not in the original: it is counted from 2008, one more each time
    the month falls. `duration` is known only after the call: it is not a fair feature.

    Layouts: `bank-marketing/bank_full.parquet`, or UCI's `bank-full.csv` (semicolons). Raises `StateError` when neither
    is there or the file is damaged. Licence: CC BY 4.0; cite S. Moro, P. Cortez and P. Rita, "A data-driven approach
    to predict the success of bank telemarketing", Decision Support Systems 62, 2014.

    >>> from nearline import datasets
    >>> datasets.bank_marketing().num_rows  # doctest: +SKIP
    45211
    """
    layouts = {"parquet": ("bank_full.parquet",), "original": ("bank-full.csv",)}
    layout, place = locate("bank-marketing", folder, layouts, ("bank-marketing", "bank"))
    table = pq.read_table(place / layouts[layout][0]) if layout == "parquet" else _original(place / "bank-full.csv")
    dates = _dates(table["day"].to_numpy(), table["month"].to_pylist())
    columns = {"timestamp": dates.astype("datetime64[s]").astype(np.int64), "date_derived": dates}
    columns |= {name: pc.cast(table[name], kind) for name, kind in (_COLUMNS | {"y": pa.int8()}).items()}
    return pa.table(columns).combine_chunks()


def _original(path: Path) -> pa.Table:
    head, _, rows = path.read_text("latin-1").partition("\n")
    names = [name.strip().strip('"') for name in head.split(";")]
    if names != [*_COLUMNS, "y"]:
        raise StateError(f"{path} does not start with the columns of bank-full.csv; fetch it again")
    table = parse_text(rows, ";", _COLUMNS | {"y": pa.string()}, path, quote=True)
    return table.set_column(len(_COLUMNS), "y", pc.cast(pc.equal(table["y"], "yes"), pa.int8()))


def _dates(day: NDArray[np.int8], month: list[str]) -> NDArray[np.datetime64]:
    """Dates of calls in order, the year counted from 2008.

    >>> _dates(np.array([31, 1]), ["dec", "jan"]).astype(str).tolist()
    ['2008-12-31', '2009-01-01']
    """
    number = np.array([_MONTHS.index(name) for name in month], dtype=np.int64)
    years = np.cumsum(np.diff(number, prepend=number[:1]) < 0)
    months = (12 * (2008 - 1970 + years) + number).astype("datetime64[M]")
    dates: NDArray[np.datetime64] = months.astype("datetime64[D]") + (day.astype(np.int64) - 1).astype("timedelta64[D]")
    return dates
