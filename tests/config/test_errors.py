"""What is wrong in a `nearline.toml` is told by its place and what may stand there instead."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.config.parts import EVERYTHING, SCHEMA

from nearline import config
from nearline._errors import ConfigError
from nearline.config import _config

ERRORS = [
    ("", "nearline.toml: 'schema' is missing"),
    ("a = ", "nearline.toml is not TOML"),
    ("[schema]", "[schema]: 'label' is missing"),
    ("[schema]\nlabel = 3", "[schema] label: expected a string, got an integer"),
    (f"{SCHEMA}[randm]", "there is no 'randm' here; did you mean 'random'? It is one of 'backtest', 'change', 'data'"),
    (f"{SCHEMA}[model]\nlnk = 1", "[model]: there is no 'lnk' here; did you mean 'link'? It is one of 'dispersion'"),
    (
        f"{SCHEMA}[model]\nlink = 'logi'",
        "[model] link: 'logi' is not allowed; did you mean 'logit'? It is one of 'identity', 'log'",
    ),
    (
        f"{SCHEMA}[model]\nlink = 'probit'",
        "[model] link: 'probit' is not allowed; it is one of 'identity', 'log', 'logit'",
    ),
    (f"{SCHEMA}[model]\nthreads = 0", "GLMix(threads=...) must be at least 1, got 0"),
    (f"{SCHEMA}[model]\nthreads = true", "[model] threads: expected an integer, got true or false"),
    (f"{SCHEMA}[fixed]\nposterior = 'ful'", "[fixed] posterior: 'ful' is not allowed; did you mean 'full'?"),
    (f"{SCHEMA}[fixed.prior]\nvarianc = 1", "[fixed.prior]: there is no 'varianc' here; did you mean 'variance'?"),
    (f"{SCHEMA}[fixed.prior]\nvariance = -1", "[fixed]: Prior(variance=...) must be > 0"),
    (f"{SCHEMA}[[random]]\non = ['x']", "[[random]] number 1: 'key' is missing"),
    (f"{SCHEMA}[[random]]\nkey = 'a'\n[[random]]\nkey = 3", "[[random]] number 2, key: expected a string or a list"),
    (f"{SCHEMA}[[random]]\nkey = 'a'\nintercept = false", "[[random]] number 1: Random('a') has neither features"),
    (
        f"{SCHEMA}[[random]]\nkey = 'a'\nprior = {{ variance = {{ b = 'x' }} }}",
        "[[random]] number 1, prior.variance.b: expected a number",
    ),
    (
        f"{SCHEMA}[[random]]\nkey = 'a'\nforgetting = {{ half_life = '7x' }}",
        "[[random]] number 1: duration '7x' is a number and one of",
    ),
    (f"{SCHEMA}[[loadings]]\nkey = 'a'\nof = 'b'", "Loadings(of='b') must name a Random effect"),
    (f"{SCHEMA}[random]\nkey = 'a'", "[random]: expected a list, got a table"),
    (
        f"{SCHEMA}[schema.columns.x]\nkind = 'categorial'",
        "[schema.columns.x] kind: 'categorial' is not allowed; did you mean 'categorical'?",
    ),
    (f"{SCHEMA}[schema.columns.x]", "[schema.columns.x]: 'kind' is missing; it is one of 'numeric', 'categorical'"),
    (
        f"{SCHEMA}[schema.columns.x]\nkind = 'multi'\nbits = 2",
        "[schema.columns.x]: there is no 'bits' here; it is one of 'kind', 'sep'",
    ),
    (f"{SCHEMA}[schema.columns]\nok = {{ kind = 'vector' }}\nx = 3", "[schema.columns] x: expected a table"),
    (
        f"{SCHEMA}[schema.columns.x]\nkind = 'hashed'\nbits = 40",
        "[schema.columns]: Hashed(bits=40) must be between 1 and 31",
    ),
    (
        f"{SCHEMA}[data]\ndataset = 'movielens'",
        "[data] dataset: 'movielens' is not allowed; did you mean 'movielens-1m'?",
    ),
    (f"{SCHEMA}[data.marketplace]\nevnts = 3", "[data.marketplace]: there is no 'evnts' here; did you mean 'events'?"),
    (
        f"{SCHEMA}[backtest]\nvariants = [{{ name = 'a', every = '1q' }}]",
        "[[backtest.variants]] number 1: duration '1q'",
    ),
    (
        f"{SCHEMA}[backtest]\nvariants = [{{ name = 'a' }}, {{ name = 'b', every = 0 }}]",
        "[[backtest.variants]] number 2: every = 0 must be",
    ),
    (
        f"{SCHEMA}[backtest]\nvariants = [{{ name = 'a', refit = 1.5 }}]",
        "[[backtest.variants]] number 1, refit: expected an integer or a string",
    ),
]


@pytest.mark.parametrize(("text", "message"), ERRORS)
def test_errors_say_where_and_what_instead(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as raised:
        config.loads(text, "nearline.toml")
    assert str(raised.value).startswith("nearline.toml")


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*absent\.toml"):
        config.load(tmp_path / "absent.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"cannot read .*binary\.toml"):
        config.load(tmp_path / "binary.toml")


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.floats(-1, 1), st.sampled_from(["", "1d", "logit", "x"])
)
KEYS = st.sampled_from(["kind", "key", "x"])
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2), max_leaves=6
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a nested document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_file_is_accepted_or_refused_in_words(data: st.DataObject) -> None:
    """Whatever stands wherever in a good file, the answer is a model or a ConfigError that names the file."""
    document = _config.tomllib.loads(EVERYTHING)
    *path, last = data.draw(st.sampled_from([place for place in places(document) if place]))
    inner: Any = document
    for key in path:
        inner = inner[key]
    inner[data.draw(st.sampled_from([last, "x"])) if isinstance(inner, dict) else last] = data.draw(VALUES)
    refused = ""
    try:
        assert _config.parse(document, Path("some.toml")).model().blocks
    except ConfigError as error:
        refused = str(error)
    assert not refused or refused.startswith("some.toml: ")
