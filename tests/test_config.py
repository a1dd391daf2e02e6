"""`nearline.toml` says what the Python API says; its errors say where and what instead; its document is complete."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nearline as nl
from nearline import config, evaluate, simulate
from nearline._errors import ConfigError, DataError, StateError
from nearline.config import _config, _live_tables, _tables, _training_tables
from nearline.config._all_tables import Tables
from nearline.config._deep_tables import DeepTable
from nearline.config._gate_table import GateTable
from nearline.config._recalibrate_table import RecalibrateTable

ROOT = Path(__file__).parent.parent
SCHEMA = '[schema]\nlabel = "clicked"\n'

EVERYTHING = """
[data]
dataset = "marketplace"
rows = 300
[data.marketplace]
events = 400
members = 30
ads = 12
campaigns = 4
seed = 5

[schema]
label = "clicked"
time = "timestamp"
id = "event_id"
weight = "w"
offset = "o"
[schema.columns]
age = { kind = "numeric", center = 40, scale = 15.5 }
place = { kind = "categorical" }
topics = { kind = "multi", sep = "|" }
picture = { kind = "vector" }
url = { kind = "hashed", bits = 9 }

[model]
link = "log"
mode = "minibatch"
dtype = "float32"
threads = 2

[fixed]
on = ["place", "topics"]
intercept = false
posterior = "diagonal"
rank = 3
[fixed.prior]
variance = 0.5
[fixed.fit]
l1 = { place = 0.5 }
bounds = { topics = [-1, 1.5] }
normalise = "unit_sd"
negatives = 0.5

[[random]]
key = "ad_id"
on = ["age"]
parent = "campaign_id"
posterior = "full"
name = "ad"
[random.prior]
variance = { "(intercept)" = 2, age = 0.5, "*" = 0.1 }
mean = { age = -1 }
[random.forgetting]
half_life = "7d"
walk_per_event = { "(intercept)" = 0.01 }
walk_per_day = 0.25

[[random]]
key = ["ad_id", "place"]
[random.forgetting]
form = "per_update"
delta = 0.8

[[loadings]]
key = "user_id"
of = "ad"
name = "taste"
[loadings.prior]
variance = 0.2
[loadings.forgetting]
half_life = 3600

[backtest]
history = 0.25
[[backtest.variants]]
name = "daily"
learns = "nothing"
refit = "1d"
[[backtest.variants]]
name = "hundreds"
every = 100
"""


# --- the same as in Python ---


def test_a_file_and_the_python_api_describe_the_same_model() -> None:
    found = config.loads(EVERYTHING).model()
    schema = nl.Schema(
        "clicked", "timestamp", "event_id", "w", "o",
        {
            "age": nl.Numeric(40, 15.5), "place": nl.Categorical(), "topics": nl.Multi("|"), "picture": nl.Vector(),
            "url": nl.Hashed(9),
        },
    )  # fmt: skip
    assert found.schema == schema
    assert found.schema.columns == schema.columns
    assert (found.link, found.mode, found.dtype, found.threads) == ("log", "minibatch", "float32", 2)
    assert found.fixed == nl.Fixed(
        "place", "topics", intercept=False, posterior="diagonal", rank=3, prior=nl.Prior(variance=0.5),
        fit=nl.FixedFit({"place": 0.5}, {"topics": (-1.0, 1.5)}, "unit_sd", 0.5),
    )  # fmt: skip
    assert found.random == (
        nl.Random(
            "ad_id", on=["age"], parent="campaign_id", posterior="full", name="ad",
            prior=nl.Prior({"(intercept)": 2.0, "age": 0.5, "*": 0.1}, {"age": -1.0}),
            forgetting=nl.Forgetting(7 * 86_400.0, walk_per_event={"(intercept)": 0.01}, walk_per_day=0.25),
        ),
        nl.Random(["ad_id", "place"], forgetting=nl.Forgetting(form="per_update", delta=0.8)),
        nl.Loadings("user_id", "ad", name="taste", prior=nl.Prior(0.2), forgetting=nl.Forgetting(3600.0)),
    )  # fmt: skip


def test_what_a_file_leaves_out_is_the_python_default() -> None:
    bare = '[[random]]\nkey = "ad_id"\n[[loadings]]\nkey = "user_id"\nof = "ad_id"\n'
    found = config.loads(f"{SCHEMA}{bare}").model()
    wanted = nl.GLMix(nl.Schema("clicked"), random=[nl.Random("ad_id"), nl.Loadings("user_id", "ad_id")])
    for name in ("schema", "fixed", "random", "link", "mode", "dtype", "dispersion", "threads"):
        assert getattr(found, name) == getattr(wanted, name)


def test_a_prior_that_names_its_mean_keeps_the_default_variance() -> None:
    found = config.loads(f'{SCHEMA}[[random]]\nkey = "ad_id"\nprior = {{ mean = 0.5 }}\n').model()
    assert found.random[0].prior == nl.Prior(mean=0.5)


def test_variants() -> None:
    found = config.loads(EVERYTHING).variants()
    assert found == [
        evaluate.Variant("daily", learns="nothing", refit="1d"), evaluate.Variant("hundreds", every=100),
    ]  # fmt: skip
    assert config.loads(SCHEMA).variants() is None


def test_marketplace_defaults_are_the_simulators_own() -> None:
    table = msgspec.structs.asdict(_tables.MarketplaceTable())
    simulated = dataclasses.asdict(simulate.Marketplace())
    assert table == {name: value for name, value in simulated.items() if name not in ("drift", "delay")}


def test_a_file_gives_the_backtest_that_python_gives(tmp_path: Path) -> None:
    table = simulate.stream(simulate.Marketplace(events=900, members=40, ads=20, campaigns=4, seed=1))
    pq.write_table(table, tmp_path / "events.parquet")
    (tmp_path / "nearline.toml").write_text("""
        [data]
        path = "events.parquet"
        [schema]
        label = "clicked"
        time = "timestamp"
        [fixed]
        on = ["country"]
        [[random]]
        key = "ad_id"
        [backtest]
        history = 0.4
        truth = "true_probability"
        title = "small"
        report = "out/report.html"
        variants = [{ name = "stale", learns = "nothing" }, { name = "fresh" }]
        [backtest.priors]
        rounds = 1
        structure = "scalar"
        half_lives = false
    """)
    setup = config.load(tmp_path / "nearline.toml")
    found = setup.backtest()

    model = nl.GLMix(nl.Schema("clicked", "timestamp"), nl.Fixed("country"), [nl.Random("ad_id")])
    design, _ = model.design(table, learn=True)
    learned = model.learn_priors(design.take(0, 360), rounds=1, structure="scalar", half_lives=False)
    variants = [evaluate.Variant("stale", learns="nothing"), evaluate.Variant("fresh")]
    wanted = evaluate.backtest(model, design, variants=variants, history=0.4, learn_priors=False)
    for ours, theirs in zip(found.outcomes, wanted.outcomes, strict=True):
        np.testing.assert_array_equal(ours.margin, theirs.margin)
    assert found.learned is not None
    assert (found.learned.before, found.learned.after) == (learned.before, learned.after)
    assert found.truth is not None
    np.testing.assert_array_equal(found.truth, table["true_probability"].to_numpy()[360:])
    assert (found.title, found.history_rows) == ("small", 360)
    assert setup.report() == tmp_path / "out/report.html"


def test_priors_of_the_file_hold_when_none_are_learned() -> None:
    setup = config.loads(
        f"{SCHEMA}[data]\ndataset = 'marketplace'\nmarketplace = {{ events = 300 }}\n"
        "[backtest]\nlearn_priors = false\nvariants = [{ name = 'fresh' }]"
    )
    model = setup.model()
    table = setup.table()
    margin = model.progressive(table).margin[30:]
    found = setup.backtest(table)
    assert found.learned is None
    np.testing.assert_allclose(found.outcomes[0].margin, margin, rtol=1e-12)


def test_progress_starts_with_priors_and_ends_done() -> None:
    setup = config.loads(
        f"{SCHEMA}[data]\ndataset = 'marketplace'\nmarketplace = {{ events = 300 }}\n"
        "[backtest]\nvariants = [{ name = 'fresh' }]\npriors = { rounds = 1 }"
    )
    told: list[tuple[str, float]] = []
    setup.backtest(progress=lambda name, share: told.append((name, share)))
    assert (told[0], told[-1]) == (("priors", 0.0), ("done", 1.0))
    assert [share for _, share in told] == sorted(share for _, share in told)


@pytest.mark.parametrize("rows", [0, 3, 50])
def test_a_rehearsal_leaves_nothing_behind(rows: int) -> None:
    setup = config.loads(
        f"{SCHEMA}[data]\ndataset = 'marketplace'\nmarketplace = {{ events = 300 }}\n"
        "[backtest]\nvariants = [{ name = 'a', learns = 'nothing', refit = '1d' }, { name = 'b', every = '1h' }]"
    )
    setup.rehearse(setup.table(), rows)
    assert setup.model().blocks[0].counts.sum() == 0


# --- errors ---

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


# --- data ---


def events(first: int, n: int) -> pa.Table:
    """A table with its row numbers."""
    return pa.table({"row": np.arange(first, first + n), "clicked": np.arange(n) % 2, "t": np.arange(n)[::-1].copy()})


def read(folder: Path, data: str) -> pa.Table:
    """The table of a file with this `[data]`, next to the events."""
    return config.loads(f"{SCHEMA}time = 't'\n[data]\n{data}", folder / "nearline.toml").table()


def write_stream(table: pa.Table, path: Path) -> None:
    """Arrow IPC in its stream form."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("ending", ["parquet", "pq", "csv", "arrow", "feather", "ipc", "PARQUET"])
def test_every_format_is_read_alike(tmp_path: Path, ending: str) -> None:
    path, table = tmp_path / f"events.{ending}", events(0, 5)
    if ending.lower() in ("parquet", "pq"):
        pq.write_table(table, path)
    elif ending == "csv":
        pyarrow.csv.write_csv(table, path)
    elif ending == "ipc":
        write_stream(table, path)
    else:
        pyarrow.feather.write_feather(table, path, compression="uncompressed")
    assert read(tmp_path, f'path = "events.{ending}"').equals(table)


def test_patterns_are_read_by_name_and_lists_in_their_order(tmp_path: Path) -> None:
    for day, first in (("2", 2), ("1", 0)):
        (tmp_path / day).mkdir()
        pq.write_table(events(first, 2), tmp_path / day / "part[1].parquet")
    assert read(tmp_path, 'path = "*/*.parquet"')["row"].to_pylist() == [0, 1, 2, 3]
    assert read(tmp_path, 'path = "**/*.parquet"')["row"].to_pylist() == [0, 1, 2, 3]
    listed = 'path = ["2/part[1].parquet", "1/part[1].parquet"]'
    assert read(tmp_path, listed)["row"].to_pylist() == [2, 3, 0, 1]
    assert read(tmp_path, f'path = "{tmp_path}/1/part[1].parquet"')["row"].to_pylist() == [0, 1]


def test_rows_and_sort(tmp_path: Path) -> None:
    table = events(0, 6).set_column(2, "t", pa.array([3, 1, 1, 0, 2, 3]))
    pq.write_table(table, tmp_path / "e.parquet")
    assert read(tmp_path, 'path = "e.parquet"\nrows = 4')["row"].to_pylist() == [0, 1, 2, 3]
    assert read(tmp_path, 'path = "e.parquet"\nsort = true')["row"].to_pylist() == [3, 1, 2, 4, 0, 5]
    setup = config.loads(f'{SCHEMA}[data]\npath = "e.parquet"', tmp_path / "n.toml")
    assert setup.table(rows=2)["row"].to_pylist() == [0, 1]


def test_columns_that_widen_are_joined_and_others_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": pa.array([1], pa.int32())}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": pa.array([2], pa.int64())}), tmp_path / "b.parquet")
    assert read(tmp_path, 'path = "*.parquet"')["x"].to_pylist() == [1, 2]
    pq.write_table(pa.table({"x": ["text"]}), tmp_path / "c.parquet")
    with pytest.raises(DataError, match="the files differ in their columns"):
        read(tmp_path, 'path = "*.parquet"')


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "give either path"),
        ('path = "a.csv"\ndataset = "elec2"', "give either path"),
        ('path = "none.csv"', "no file matches 'none.csv' in"),
        ('path = "a.txt"', r"ends in '.txt'; known endings are .parquet"),
        ('path = "a.csv"\nrows = 0', "rows: must be at least 1, got 0"),
        ('dataset = "marketplace"\nmarketplace = { members = 0 }', "Marketplace.members=.* must be positive"),
    ],
)
def test_data_errors_are_errors_of_the_file(tmp_path: Path, data: str, message: str) -> None:
    for name in ("a.csv", "a.txt"):
        (tmp_path / name).write_text("clicked,t\n1,2\n")
    with pytest.raises(ConfigError, match=f"nearline.toml: .*{message}"):
        read(tmp_path, data)


def test_sorting_needs_a_time_column(tmp_path: Path) -> None:
    pq.write_table(events(0, 2), tmp_path / "e.parquet")
    with pytest.raises(ConfigError, match=r"sort: needs \[schema\] time"):
        config.loads(f'{SCHEMA}[data]\npath = "e.parquet"\nsort = true', tmp_path / "n.toml").table()
    with pytest.raises(DataError, match=r"'when': the table has no such column"):
        config.loads(
            f'{SCHEMA}time = "when"\n[data]\npath = "e.parquet"\nsort = true', tmp_path / "n.toml"
        ).table()  # fmt: skip


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "e.parquet").write_text("not Parquet")
    with pytest.raises(DataError, match=r"cannot read .*e.parquet as parquet"):
        read(tmp_path, 'path = "e.parquet"')


def test_a_truth_that_is_not_there_is_named(tmp_path: Path) -> None:
    pq.write_table(events(0, 9), tmp_path / "e.parquet")
    text = f'{SCHEMA}[data]\npath = "e.parquet"\n[backtest]\ntruth = "p"\nlearn_priors = false'
    with pytest.raises(DataError, match=r"'p': the table has no such column"):
        config.loads(text, tmp_path / "n.toml").backtest()


def test_the_marketplace_is_the_simulators() -> None:
    found = config.loads(EVERYTHING).table()
    wanted = simulate.stream(simulate.Marketplace(events=400, members=30, ads=12, campaigns=4, seed=5))
    assert found.equals(wanted.slice(0, 300))
    assert config.loads(EVERYTHING).title() == "marketplace"


def test_data_sets_are_looked_for_in_the_files_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEARLINE_DATA", raising=False)
    folder = tmp_path / "films" / "ml-1m"
    folder.mkdir(parents=True)
    (folder / "users.dat").write_text("1::F::1::10::48067\n")
    (folder / "movies.dat").write_text("7::Heat (1995)::Action|Crime\n8::Sabrina (1995)::Comedy\n", "latin-1")
    (folder / "ratings.dat").write_text("1::7::5::100\n1::8::3::50\n")
    threes = read(tmp_path, 'dataset = "movielens-1m"\nfolder = "films"\nratings = "all"')
    assert threes["movie_id"].to_pylist() == [8, 7]
    assert read(tmp_path, 'dataset = "movielens-1m"\nfolder = "films"')["movie_id"].to_pylist() == [7]
    for name in ("movielens-1m", "movielens-100k", "bank-marketing", "elec2"):
        with pytest.raises(StateError, match=f"data set '{name}' not found"):
            read(tmp_path, f'dataset = "{name}"\nfolder = "elsewhere"')


# --- docs/configuration.md and examples/ ---

STRUCTS: dict[str, list[type[msgspec.Struct]]] = {
    "[data]": [_tables.DataTable],
    "[data.marketplace]": [_tables.MarketplaceTable],
    "[schema]": [_tables.SchemaTable],
    "[schema.columns.NAME]": [
        _tables.NumericTable, _tables.CategoricalTable, _tables.MultiTable, _tables.VectorTable, _tables.HashedTable,
    ],
    "[model]": [_tables.ModelTable],
    "[fixed]": [_tables.FixedTable],
    "[[random]]": [_tables.RandomTable],
    "[[loadings]]": [_tables.LoadingsTable],
    "[fixed.network]": [_tables.NetworkTable],
    "[fixed.fit]": [_tables.FixedFitTable],
    "[random.fit]": [_tables.RandomFitTable],
    "[fixed.prior]": [_tables.PriorTable],
    "[fixed.forgetting]": [_tables.ForgettingTable],
    "[backtest]": [_tables.BacktestTable],
    "[backtest.priors]": [_tables.PriorsTable],
    "[[backtest.variants]]": [_tables.VariantTable],
    "[fit.priors.adjust.NAME]": [_tables.AdjustTable],
    "[tune]": [_live_tables.TuneTable],
    "[fit]": [_live_tables.FitTable],
    "[live]": [_live_tables.LiveTable],
    "[join]": [_live_tables.JoinTable],
    "[ledger]": [_live_tables.LedgerTable],
    "[safety]": [_live_tables.SafetyTable],
    "[guard]": [_live_tables.GuardTable],
    "[change]": [_live_tables.ChangeTable],
    "[gate]": [GateTable],
    "[recalibrate]": [RecalibrateTable],
    "[training]": [_training_tables.TrainingTable],
    "[refit]": [_training_tables.RefitTable],
    "[deep]": [DeepTable],
    "[serve]": [_live_tables.ServeTable],
}  # fmt: skip


def documented() -> dict[str, dict[str, tuple[str, str]]]:
    """(default, value) of every field of every table, as docs/configuration.md has them."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for line in (ROOT / "docs/configuration.md").read_text("utf-8").splitlines():
        if heading := re.match(r"### `([^`]+)`", line):
            fields = found.setdefault(heading[1], {})
        elif row := re.match(r"\| `(\w+)` \| ([^|]+) \| ([^|]+) \|", line):
            fields[row[1]] = (row[2].strip(), row[3])
    return found


def in_toml(field: msgspec.structs.FieldInfo) -> str:
    """A default as the document writes it."""
    if field.required:
        return "required"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if isinstance(value, msgspec.Struct):
        return "see below"
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        return f"`{[list(item) for item in value]}`"
    return "none" if value is None else f"`{msgspec.json.encode(value).decode()}`"


def test_every_table_is_documented_and_every_documented_one_exists() -> None:
    assert set(documented()) == set(STRUCTS)
    used = {struct for structs in STRUCTS.values() for struct in structs}
    assert used == set(_tables.Table.__subclasses__()) - {Tables}


@pytest.mark.parametrize("table", STRUCTS)
def test_every_field_is_documented_with_its_default(table: str) -> None:
    structs = STRUCTS[table]
    fields = {field.encode_name: in_toml(field) for struct in structs for field in msgspec.structs.fields(struct)}
    if structs[0].__struct_config__.tag_field:
        fields[structs[0].__struct_config__.tag_field] = "required"
    assert {name: default for name, (default, _) in documented()[table].items()} == fields


@pytest.mark.parametrize("table", STRUCTS)
def test_every_choice_is_documented(table: str) -> None:
    rows = documented()[table]
    for struct in STRUCTS[table]:
        for field in msgspec.inspect.type_info(struct).fields:
            choices = getattr(field.type, "values", ()) or [
                value for part in getattr(field.type, "types", ()) for value in getattr(part, "values", ())
            ]
            assert not choices or set(re.findall(r'"([^"]+)"', rows[field.encode_name][1])) == set(choices)
        tag = struct.__struct_config__.tag
        assert tag is None or f'"{tag}"' in rows["kind"][1]


def test_the_documents_own_example_is_accepted() -> None:
    text = (ROOT / "docs/configuration.md").read_text("utf-8")
    for example in re.findall(r"```toml\n(.*?)```", text, re.DOTALL):
        config.loads(example)
    error = re.search(r"```\nerror: (nearline.toml: .*)\n```", text)
    assert error is not None
    with pytest.raises(ConfigError, match=re.escape(error[1])):
        config.loads(f"{SCHEMA}[model]\nlnk = 'logit'")


EXAMPLES = sorted((ROOT / "examples").glob("*.toml")) + sorted((ROOT / "src/nearline/cli").glob("*.toml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_accepted(path: Path) -> None:
    setup = config.load(path)
    assert setup.variants() or path.name == "live.toml"
    assert setup.model().blocks


def test_there_are_examples() -> None:
    assert {path.name for path in EXAMPLES} >= {"events.toml", "elec2.toml", "movielens.toml", "marketplace.toml"}


def test_defaults_of_a_running_service_are_those_of_its_rooms() -> None:
    from nearline.gate import ChangeSettings, GuardSettings
    from nearline.glmix import Safety
    from nearline.join import Policy
    from nearline.loop import Gating, Pace, Recording
    from nearline.recalibrate import RecalibrationSettings
    from nearline.serve import Limits

    found = config.loads(SCHEMA).running()
    assert (found.pace, found.recording, found.safety) == (Pace(), Recording(), Safety())
    assert (found.guard, found.change, found.limits) == (GuardSettings(), ChangeSettings(), Limits())
    assert (found.gated, found.gating) == (True, Gating())
    assert found.recalibrate == RecalibrationSettings()
    assert config.loads(f"{SCHEMA}[recalibrate]\nenabled = false").running().recalibrate is None
    assert config.loads(SCHEMA + '[model]\nlink = "log"').running().recalibrate is None
    assert found.policy == Policy(window=600.0, horizon=3_600.0)


@pytest.mark.parametrize(
    ("text", "horizon"),
    [('window = "2h"', 7_200.0), ('window = "1min"', 3_600.0), ('window = "1min"\nhorizon = "5min"', 300.0)],
)
def test_the_horizon_of_a_join_is_an_hour_or_the_window_unless_it_is_said(text: str, horizon: float) -> None:
    found = config.loads(f"{SCHEMA}\n[join]\n{text}\n").running()
    assert found.policy.horizon == horizon


def test_a_hold_out_of_the_gate_is_by_columns() -> None:
    from nearline.gate import HoldOut

    found = config.loads(f'{SCHEMA}[gate]\nholdout = ["user_id"]\nshare = 0.02').running().gating
    assert found.holdout == HoldOut(("user_id",), 0.02)
    with pytest.raises(ConfigError, match="a hold-out needs columns and a share between 0 and 1"):
        config.loads(f'{SCHEMA}[gate]\nholdout = ["user_id"]\nshare = 2.0')


def test_the_guard_can_be_switched_off() -> None:
    assert config.loads(SCHEMA + "[guard]\nenabled = false").running().guard is None


def test_the_response_to_changes_can_be_switched_off() -> None:
    assert config.loads(SCHEMA + "[change]\nenabled = false").running().change is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[join]\nwindow = 0", "window must be > 0"),
        ("[live]\nbatch = 0", "batch must be at least 1"),
        ("[ledger]\nflush = 0.0", "flush is a finite number of seconds > 0"),
        ("[safety]\nstep = 0.0", "step"),
        ("[guard]\nalpha = 2.0", "alpha"),
        ('[join]\nlate = "never"', "'never' is not allowed"),
    ],
)
def test_a_running_services_settings_are_checked(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        config.loads(SCHEMA + text)


def test_metrics_of_the_backtest_are_checked_when_the_file_is_read() -> None:
    text = f'{SCHEMA}[[random]]\nkey = "ad_id"\n[backtest]\nmetrics = ["pr_auc", "ndcg@5 by ad_id"]'
    assert [metric.label for metric in config.loads(text).metrics()] == ["PR-AUC", "NDCG@5 by ad_id"]
    with pytest.raises(ConfigError, match=r"\[backtest\] metrics: there is no metric 'gini' for the logit link"):
        config.loads(f'{SCHEMA}[backtest]\nmetrics = ["gini"]')
