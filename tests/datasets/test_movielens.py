"""MovieLens in every accepted layout, rebuilt where possible into the bytes of the original."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tests.datasets.parts import DATA, MOVIES, RATINGS, digest_of, needs, original_1m, rows_of, write

from nearline import _errors, datasets
from nearline.datasets._download import SOURCES

ITEM_FLAGS = {10: {8, 12}, 20: {0}, 30: set()}


def original_100k(folder: Path) -> None:
    write(folder / "u.data", RATINGS, "\t")
    write(folder / "u.user", [(1, 24, "F", "writer", "T8H1N"), (2, 53, "M", "other", "94043")], "|")
    dates = {10: "04-Feb-1995", 20: "4-Feb-1931", 30: ""}
    items = [
        (i, title, dates[i], "", "http://x/?a|b".replace("|", "%7C"), *(int(k in ITEM_FLAGS[i]) for k in range(19)))
        for i, title, _ in MOVIES
    ]
    write(folder / "u.item", items, "|")


@pytest.mark.parametrize("sub", ["", "ml-1m", "movielens-1m"])
def test_movielens_1m_from_the_original_archive(tmp_path, sub):
    original_1m(tmp_path / sub)
    table = datasets.movielens_1m(tmp_path)
    assert table["timestamp"].to_pylist() == [100, 100, 100, 200, 300]
    assert table["movie_id"].to_pylist() == [20, 20, 30, 10, 10]  # equal times keep the order of the file
    assert table["user_id"].to_pylist() == [1, 2, 2, 1, 2]
    assert table["liked"].to_pylist() == [0, 0, 0, 1, 1]
    assert table["genres"].to_pylist()[-1] == ["Drama", "Musical"]
    assert table["title"].to_pylist()[2:4] == ['Say "Hi" (2000)', "Misérables, Les (1995)"]
    assert table["year"].to_pylist() == [1931, 1931, 2000, 1995, 1995]
    assert table["gender"].to_pylist() == ["F", "M", "M", "F", "M"]
    assert table["age"].to_pylist() == [1, 56, 56, 1, 56]
    assert table["timestamp_known"].to_pylist() == [True] * 5


def test_no_threes_drops_rating_three_only(tmp_path):
    original_1m(tmp_path)
    table = datasets.movielens_1m(tmp_path, ratings="no_threes")
    assert table["rating"].to_pylist() == [2, 1, 4, 5]
    assert "timestamp_known" not in table.column_names
    with pytest.raises(_errors.ConfigError, match="no_threes"):
        datasets.movielens_1m(tmp_path, ratings="some")


def test_a_filled_time_is_marked_as_not_known(tmp_path):
    ratings = {
        "user_id": pa.array([1, 1], pa.int32()), "movie_id": pa.array([10, 20], pa.int32()),
        "rating": pa.array([3, 5], pa.int8()), "timestamp": pa.array([None, 7], pa.int64()),
        "timestamp_filled": pa.array([9, 7], pa.int64()), "timestamp_known": pa.array([False, True]),
    }  # fmt: skip
    users = {"user_id": pa.array([1], pa.int32()), "gender": ["F"], "age": pa.array([1], pa.int8())}
    users |= {"occupation": pa.array([2], pa.int8()), "zip_code": ["1"]}
    movies = {
        "movie_id": pa.array([10, 20], pa.int32()),
        "title": ["A (1999)", "B (2000)"],
        "genres": ["War", "War|Drama"],
    }
    for name, columns in (("ratings", ratings), ("users", users), ("movies", movies)):
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    table = datasets.movielens_1m(tmp_path)
    assert table["timestamp"].to_pylist() == [7, 9]
    assert table["timestamp_known"].to_pylist() == [True, False]


@pytest.mark.parametrize("sub", ["", "ml-100k", "movielens-100k"])
def test_movielens_100k_from_the_original_archive(tmp_path, sub):
    original_100k(tmp_path / sub)
    table = datasets.movielens_100k(tmp_path)
    assert table["movie_id"].to_pylist() == [20, 20, 30, 10, 10]
    assert table["genres"].to_pylist() == [["unknown"], ["unknown"], [], ["Drama", "Musical"], ["Drama", "Musical"]]
    assert table["year"].to_pylist() == [1931, 1931, None, 1995, 1995]
    assert table["occupation"].to_pylist() == ["writer", "other", "other", "writer", "other"]
    assert table["age"].to_pylist() == [24, 53, 53, 24, 53]
    assert datasets.movielens_100k(tmp_path, ratings="no_threes").num_rows == 4


@needs("movielens-1m")
def test_movielens_1m_has_the_published_counts():
    start = time.process_time()
    table = datasets.movielens_1m()
    assert time.process_time() - start < 3
    counts = np.bincount(table["rating"].to_numpy())
    assert counts.tolist() == [0, 56_174, 107_557, 261_197, 348_971, 226_310]
    assert np.bincount(table["timestamp_known"].to_numpy()).tolist() == [130_860, 869_349]
    stamp = table["timestamp"].to_numpy()
    assert (np.diff(stamp) >= 0).all()
    assert (stamp[0], stamp[-1]) == (956_703_932, 1_046_454_590)
    assert pc.count_distinct(table["user_id"]).as_py() == 6_040
    assert pc.count_distinct(table["movie_id"]).as_py() == 3_706
    assert pc.min_max(table["year"]).as_py() == {"min": 1919, "max": 2000}
    assert sum(table.column(name).null_count for name in table.column_names) == 0


@needs("movielens-1m")
def test_movielens_1m_without_threes_is_739012_exact_events():
    table = datasets.movielens_1m(ratings="no_threes")
    assert table.num_rows == 739_012
    assert table["liked"].to_numpy().sum() == 348_971 + 226_310
    raw = pq.read_table(DATA / "movielens-1m" / "ratings.parquet").filter(pc.field("rating") != 3)
    assert raw["timestamp"].null_count == 0
    order = np.argsort(raw["timestamp"].to_numpy(), kind="stable")
    for name in ("user_id", "movie_id", "timestamp"):
        np.testing.assert_array_equal(table[name].to_numpy(), raw[name].to_numpy()[order])
    last = table["timestamp"].to_numpy() >= 975_768_738
    assert 0.1 < last.mean() < 0.3


@needs("movielens-1m")
def test_the_original_files_of_movielens_1m_give_the_same_table(rebuilt_1m):
    digests = SOURCES["movielens-1m"].files
    assert digest_of(rebuilt_1m / "users.dat") == digests["users.dat"]
    assert digest_of(rebuilt_1m / "movies.dat") == digests["movies.dat"]
    start = time.process_time()
    table = datasets.movielens_1m(rebuilt_1m, ratings="no_threes")
    assert time.process_time() - start < 3
    assert table.equals(datasets.movielens_1m(ratings="no_threes"))
    everything = datasets.movielens_1m(rebuilt_1m).drop_columns("timestamp_known")
    assert everything.equals(datasets.movielens_1m().drop_columns("timestamp_known"))


@needs("movielens-100k")
def test_movielens_100k_has_the_published_counts():
    table = datasets.movielens_100k()
    assert np.bincount(table["rating"].to_numpy()).tolist() == [0, 6_110, 11_370, 27_145, 34_174, 21_201]
    assert (np.diff(table["timestamp"].to_numpy()) >= 0).all()
    assert pc.count_distinct(table["movie_id"]).as_py() == 1_682
    assert len({genre for held in table["genres"].to_pylist() for genre in held}) == 19
    missing = table.filter(pc.is_null(table["year"]))
    assert set(missing["title"].to_pylist()) == {"unknown"}


@needs("movielens-100k")
def test_the_original_files_of_movielens_100k_give_the_same_table(tmp_path):
    source = DATA / "movielens-100k"
    write(tmp_path / "u.data", rows_of(source / "ratings.parquet", "user_id", "item_id", "rating", "timestamp"), "\t")
    user = ("user_id", "age", "gender", "occupation", "zip_code")
    write(tmp_path / "u.user", rows_of(source / "users.parquet", *user), "|")
    genres = datasets._movielens._GENRES
    items = [
        (number, title, released, "", "", *(int(name in held.split("|")) for name in genres))
        for number, title, released, held in rows_of(
            source / "items.parquet", "item_id", "title", "release_date", "genres"
        )
    ]
    write(tmp_path / "u.item", items, "|")
    for name in ("u.data", "u.user"):
        assert digest_of(tmp_path / name) == SOURCES["movielens-100k"].files[name]
    assert datasets.movielens_100k(tmp_path).equals(datasets.movielens_100k())
