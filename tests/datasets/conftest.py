"""The original files of MovieLens 1M, as far as its Parquet copy tells."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.datasets.parts import DATA, rows_of, write


@pytest.fixture(scope="session")
def rebuilt_1m(tmp_path_factory) -> Path:
    """The three files of ml-1m, written from the Parquet copy."""
    source, folder = DATA / "movielens-1m", tmp_path_factory.mktemp("rebuilt") / "ml-1m"
    ratings = rows_of(source / "ratings.parquet", "user_id", "movie_id", "rating", "timestamp_filled")
    write(folder / "ratings.dat", ratings, "::")
    write(
        folder / "users.dat",
        rows_of(source / "users.parquet", "user_id", "gender", "age", "occupation", "zip_code"),
        "::",
    )
    write(folder / "movies.dat", rows_of(source / "movies.parquet", "movie_id", "title", "genres"), "::")
    return folder
