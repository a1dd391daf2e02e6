"""MovieLens-100k as the experiments use it: liked means more than three stars; user features on movies and back."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc

import nearline as nl

USER = ("age", "gender", "occupation")
MOVIE = ("genres", "year")
# Of 24 user features (age / 100, 2 genders, 21 occupations) and 20 movie features (19 genres, year / 2000).
COLUMNS = {"age": nl.Numeric(center=0.0, scale=100.0), "year": nl.Numeric(center=0.0, scale=2000.0)}
# An intercept that no prior holds back: 1/variance is far below the curvature of a single row.
FREE = 1e6


def table() -> Any:
    """100,000 ratings in order of time; the year of the one movie without is 0."""
    events = nl.datasets.movielens_100k()
    return events.set_column(events.column_names.index("year"), "year", pc.fill_null(events["year"], 0))


def schema(offset: str | None = None) -> nl.Schema:
    """Roles of the columns."""
    return nl.Schema(label="liked", time="timestamp", offset=offset, columns=COLUMNS)


def ridge(penalty: float, *, free_intercept: bool) -> nl.Prior:
    """The prior of an L2 penalty λ, variance 1/λ on every coefficient."""
    variance = {"*": 1.0 / penalty}
    return nl.Prior(variance=variance | {"(intercept)": FREE} if free_intercept else variance)


def fixed(posterior: Any = "full") -> nl.Fixed:
    """The fixed effect on all features: λ = 1, intercept free."""
    return nl.Fixed(*USER, *MOVIE, prior=ridge(1.0, free_intercept=True), posterior=posterior)
