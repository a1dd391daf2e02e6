"""`nearline.toml` says what the Python API says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.config.parts import EVERYTHING, SCHEMA

import nearline as nl
from nearline import config, evaluate, simulate
from nearline.config import _tables


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
