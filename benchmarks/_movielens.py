"""The MovieLens model that every nearline benchmark runs: same columns as the rivals get, no number set by hand."""

from __future__ import annotations

from typing import Any

import nearline as nl


def events() -> Any:
    """The 739,012 likes and dislikes of MovieLens-1M in time order (ratings of 3 dropped)."""
    return nl.datasets.movielens_1m(ratings="no_threes")


def model(**options: Any) -> nl.GLMix:
    """Fixed effect, user on movie features, movie on user features, the movies' loadings on the users' coefficients."""
    schema = nl.Schema(
        label="liked", time="timestamp", columns={"age": nl.Categorical(), "occupation": nl.Categorical()}
    )
    return nl.GLMix(
        schema,
        fixed=nl.Fixed("gender", "age", "occupation", "genres", "year"),
        random=[
            nl.Random("user_id", on=["genres", "year"]),
            nl.Random("movie_id", on=["gender", "age", "occupation"]),
            nl.Loadings("movie_id", of="user_id"),
        ],
        **options,
    )
