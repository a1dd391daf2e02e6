"""MovieLens 1M and 100K, joined and in order of time.

Licence of both: GroupLens Research, University of Minnesota; research use with citation, no commercial use and no
redistribution without permission. Cite F. M. Harper and J. A. Konstan, "The MovieLens Datasets: History and
Context", ACM Transactions on Interactive Intelligent Systems 5(4), 2015.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from nearline._errors import ConfigError
from nearline.datasets._folder import locate
from nearline.datasets._text import positions, read_text

Ratings = Literal["all", "no_threes"]

_PARQUET = ("ratings.parquet", "users.parquet")
_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
_RATING: Mapping[str, pa.DataType] = {
    "user_id": pa.int32(), "movie_id": pa.int32(), "rating": pa.int8(), "timestamp": pa.int64()
}  # fmt: skip


def movielens_1m(folder: str | Path | None = None, ratings: Ratings = "all") -> pa.Table:
    """MovieLens 1M: 1,000,209 ratings of 3,706 movies by 6,040 users in 2000-2003, one row each, in order of time.

    Columns: user_id, movie_id (int32), rating (int8, 1 to 5), liked (int8, rating ≥ 4), timestamp (int64, seconds),
    gender (F/M), age (int8, lower end of a bracket), occupation (int8, code), genres (list of string), year (int16,
    from the title), title. Rows of equal time keep the order of the file.

    `ratings="no_threes"` leaves the rating 3 out: 739,012 likes and dislikes. `ratings="all"` adds `timestamp_known`:
    where it is false the time is an estimate (that of the same user's rating with the nearest movie id), because the
    Parquet copy lacks the time of 130,860 rows, all of rating 3. From the original archive it is true throughout.

    Layouts: `movielens-1m/*.parquet`, or GroupLens' `ml-1m/{ratings,users,movies}.dat`. Raises `StateError` when
    neither is there or a file is damaged, `ConfigError` for another value of `ratings`. Research use with citation; no
    redistribution, no commercial use.

    >>> from nearline import datasets
    >>> datasets.movielens_1m(ratings="no_threes").num_rows  # doctest: +SKIP
    739012
    """
    _check(ratings)
    layouts = {"parquet": (*_PARQUET, "movies.parquet"), "original": ("ratings.dat", "users.dat", "movies.dat")}
    layout, place = locate("movielens-1m", folder, layouts, ("movielens-1m", "ml-1m"))
    events, users, movies = _read_1m(place) if layout == "parquet" else _read_1m_original(place)
    movies = movies.append_column("year", _years(movies["title"], r"\((\d{4})\)$"))
    return _joined(events, users, movies, ratings)


def movielens_100k(folder: str | Path | None = None, ratings: Ratings = "all") -> pa.Table:
    """MovieLens 100K: 100,000 ratings of 1,682 movies by 943 users in 1997-1998, one row each, in order of time.

    Columns as in `movielens_1m`, but age is a number of years, occupation a word, year that of the release date (null
    for the one movie without), and every time is known. Genres are 18 names and "unknown".

    Layouts: `movielens-100k/*.parquet`, or GroupLens' `ml-100k/u.{data,user,item}`. Raises as `movielens_1m` does.
    Research use with citation; no redistribution, no commercial use.

    >>> from nearline import datasets
    >>> datasets.movielens_100k().num_rows  # doctest: +SKIP
    100000
    """
    _check(ratings)
    layouts = {"parquet": (*_PARQUET, "items.parquet"), "original": ("u.data", "u.user", "u.item")}
    layout, place = locate("movielens-100k", folder, layouts, ("movielens-100k", "ml-100k"))
    events, users, movies = _read_100k(place) if layout == "parquet" else _read_100k_original(place)
    movies = movies.append_column("year", _years(movies["release_date"], r"-(\d{4})$"))
    return _joined(events, users, movies, ratings).drop_columns(["timestamp_known"] if ratings == "all" else [])


def _check(ratings: str) -> None:
    if ratings not in ("all", "no_threes"):
        raise ConfigError(f'ratings must be "all" or "no_threes"; got {ratings!r}')


def _read_1m(place: Path) -> tuple[pa.Table, pa.Table, pa.Table]:
    events = pq.read_table(place / "ratings.parquet").drop_columns(["timestamp"])
    events = events.rename_columns({"timestamp_filled": "timestamp"})
    return events, pq.read_table(place / "users.parquet"), _split(pq.read_table(place / "movies.parquet"))


def _read_1m_original(place: Path) -> tuple[pa.Table, pa.Table, pa.Table]:
    user = {"user_id": pa.int32(), "gender": pa.string(), "age": pa.int8(), "occupation": pa.int8(), "zip": pa.string()}
    movie = {"movie_id": pa.int32(), "title": pa.string(), "genres": pa.string()}
    return (
        _all_known(read_text(place / "ratings.dat", "::", _RATING)),
        read_text(place / "users.dat", "::", user),
        _split(read_text(place / "movies.dat", "::", movie)),
    )


def _read_100k(place: Path) -> tuple[pa.Table, pa.Table, pa.Table]:
    events = pq.read_table(place / "ratings.parquet").rename_columns({"item_id": "movie_id"})
    movies = pq.read_table(place / "items.parquet").rename_columns({"item_id": "movie_id"})
    return _all_known(events), pq.read_table(place / "users.parquet"), _split(movies)


def _read_100k_original(place: Path) -> tuple[pa.Table, pa.Table, pa.Table]:
    user = {"user_id": pa.int32(), "age": pa.int8(), "gender": pa.string(), "occupation": pa.string()}
    movie = {"movie_id": pa.int32(), "title": pa.string(), "release_date": pa.string()}
    ignored = {"video_release_date": pa.string(), "url": pa.string()}
    flags = {f"flag {genre}": pa.int8() for genre in _GENRES}
    items = read_text(place / "u.item", "|", movie | ignored | flags)
    held = np.column_stack([items[name].to_numpy() for name in flags])
    return (
        _all_known(read_text(place / "u.data", "\t", _RATING)),
        read_text(place / "u.user", "|", user | {"zip": pa.string()}),
        items.select(list(movie)).append_column("genres", _named(held)),
    )


def _all_known(events: pa.Table) -> pa.Table:
    return events.append_column("timestamp_known", pa.array(np.ones(events.num_rows, dtype=bool)))


def _split(movies: pa.Table) -> pa.Table:
    genres = pc.split_pattern(movies["genres"], "|")
    return movies.set_column(movies.column_names.index("genres"), "genres", genres)


def _named(held: NDArray[np.int8]) -> pa.Array:
    rows, columns = np.nonzero(held)
    offsets = np.searchsorted(rows, np.arange(len(held) + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(_GENRES).take(pa.array(columns)))


def _years(text: pa.ChunkedArray, pattern: str) -> pa.Array:
    found = [re.search(pattern, value) for value in text.to_pylist()]
    return pa.array([int(match[1]) if match else None for match in found], pa.int16())


def _joined(events: pa.Table, users: pa.Table, movies: pa.Table, ratings: Ratings) -> pa.Table:
    if ratings == "no_threes":
        events = events.filter(pc.not_equal(events["rating"], 3))
    events = events.take(pa.array(np.argsort(events["timestamp"].to_numpy(), kind="stable")))
    user = users.take(pa.array(positions(events["user_id"], users["user_id"], "user_id")))
    movie = movies.take(pa.array(positions(events["movie_id"], movies["movie_id"], "movie_id")))
    columns = {name: events[name] for name in ("user_id", "movie_id", "rating")}
    columns |= {"liked": pc.cast(pc.greater_equal(events["rating"], 4), pa.int8()), "timestamp": events["timestamp"]}
    columns |= {name: user[name] for name in ("gender", "age", "occupation")}
    columns |= {name: movie[name] for name in ("genres", "year", "title")}
    columns |= {"timestamp_known": events["timestamp_known"]} if ratings == "all" else {}
    return pa.table(columns).combine_chunks()
