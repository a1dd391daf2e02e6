"""Bank marketing: the layout of UCI, its derived dates, and the published counts."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.datasets.parts import BANK_HEAD, DATA, bank_row, needs

from nearline import datasets


@pytest.mark.parametrize("sub", ["", "bank-marketing", "bank"])
def test_bank_marketing_from_ucis_file(tmp_path, sub):
    (tmp_path / sub).mkdir(exist_ok=True)
    rows = [
        bank_row(5, "may", "no"),
        bank_row(31, "dec", "yes"),
        bank_row(2, "jan", "no"),
        bank_row(1, "apr", "yes"),
    ]
    (tmp_path / sub / "bank-full.csv").write_text(BANK_HEAD + "".join(rows))
    table = datasets.bank_marketing(tmp_path)
    assert [str(day) for day in table["date_derived"].to_pylist()] == [
        "2008-05-05",
        "2008-12-31",
        "2009-01-02",
        "2009-04-01",
    ]
    assert table["timestamp"].to_pylist()[0] == 1_209_945_600
    assert table["y"].to_pylist() == [0, 1, 0, 1]
    assert table["balance"].to_pylist() == [-21] * 4
    assert table["job"].to_pylist() == ["blue-collar"] * 4


@needs("bank-marketing")
def test_bank_marketing_has_the_published_counts_and_drift():
    table = datasets.bank_marketing()
    y, stamp = table["y"].to_numpy(), table["timestamp"].to_numpy()
    assert (len(y), y.sum()) == (45_211, 5_289)
    assert (np.diff(stamp) >= 0).all()
    year = np.array([day.year for day in table["date_derived"].to_pylist()])
    assert [round(float(y[year == k].mean()), 3) for k in (2008, 2009, 2010)] == [0.051, 0.171, 0.516]
    # the date is derived here anew and must be that of the copy
    copy = pq.read_table(DATA / "bank-marketing" / "bank_full.parquet")
    assert table["date_derived"].to_pylist() == copy["date_derived"].to_pylist()


@needs("bank-marketing")
def test_ucis_layout_of_bank_marketing_gives_the_same_table(tmp_path):
    table = datasets.bank_marketing()
    names = [name.strip('"') for name in BANK_HEAD.strip().split(";")]
    columns = [table[name].to_pylist() for name in names]
    columns[-1] = ["yes" if y else "no" for y in columns[-1]]
    rows = [";".join(f'"{cell}"' if isinstance(cell, str) else str(cell) for cell in row) for row in zip(*columns)]
    (tmp_path / "bank-full.csv").write_text(BANK_HEAD + "\n".join(rows) + "\n")
    assert datasets.bank_marketing(tmp_path).equals(table)
