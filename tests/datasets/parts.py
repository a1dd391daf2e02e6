"""Small files in the layouts of the originals, and the real data where they are.

The real data are not part of the repository: tests that need them skip without NEARLINE_DATA.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from nearline import datasets

DATA = Path(os.environ.get("NEARLINE_DATA", ""))


def needs(name: str) -> pytest.MarkDecorator:
    present = "NEARLINE_DATA" in os.environ and (DATA / name).is_dir()
    return pytest.mark.skipif(not present, reason=f"needs {name} in the folder that NEARLINE_DATA names")


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(path: Path, rows: list[tuple[object, ...]], separator: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(separator.join(str(cell) for cell in row) + "\n" for row in rows)
    path.write_bytes(text.encode("latin-1"))
    return path


def rows_of(path: Path, *columns: str) -> list[tuple[object, ...]]:
    table = pq.read_table(path)
    return list(zip(*(table[name].to_pylist() for name in columns)))


RATINGS = [(2, 10, 5, 300), (1, 20, 3, 100), (1, 10, 4, 200), (2, 20, 2, 100), (2, 30, 1, 100)]
MOVIES = [(10, "Misérables, Les (1995)", "Drama|Musical"), (20, "M (1931)", "Crime"), (30, 'Say "Hi" (2000)', "Comedy")]
USERS = [(1, "F", 1, 10, "48067"), (2, "M", 56, 16, "7-0072")]


def original_1m(folder: Path) -> None:
    write(folder / "ratings.dat", RATINGS, "::")
    write(folder / "users.dat", USERS, "::")
    write(folder / "movies.dat", MOVIES, "::")


BANK_HEAD = (
    '"age";"job";"marital";"education";"default";"balance";"housing";"loan";"contact";"day";"month";"duration";'
    '"campaign";"pdays";"previous";"poutcome";"y"\n'
)


def bank_row(day: int, month: str, y: str) -> str:
    start = '58;"blue-collar";"single";"tertiary";"no";-21;"yes";"no";"unknown"'
    return f'{start};{day};"{month}";261;1;-1;0;"unknown";"{y}"\n'


LOADERS = {
    "movielens-1m": datasets.movielens_1m,
    "movielens-100k": datasets.movielens_100k,
    "bank-marketing": datasets.bank_marketing,
    "elec2": datasets.elec2,
}
