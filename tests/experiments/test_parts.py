"""What the experiments are made of: estimates, agreement, mini-batches, the drift rule, the page and the figures."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments import _draw, _estimate, _reference, _results, _serve, _simulation, _slices
from nearline import Fixed, Forgetting, GLMix, Numeric, Prior, Random, Schema
from nearline.glmix import _fold


@pytest.mark.parametrize("runs", [2, 5, 10])
def test_an_estimate_has_students_interval(runs: int) -> None:
    values = np.random.default_rng(runs).normal(size=runs)
    found = _estimate.Estimate.of(values)
    low, high = stats.t.interval(0.95, runs - 1, values.mean(), stats.sem(values))
    assert found.mean == pytest.approx(values.mean())
    assert found.half == pytest.approx((high - low) / 2, rel=1e-3)


def test_a_single_run_has_no_interval() -> None:
    found = _estimate.Estimate.of([0.5])
    assert math.isinf(found.half)
    assert found.text(2) == "0.50"


def test_the_cluster_bootstrap_widens_with_the_clusters() -> None:
    rng = np.random.default_rng(0)
    cluster = np.repeat(np.arange(50), 40)
    shared = np.repeat(rng.standard_normal(50), 40)

    def mean(weight: np.ndarray) -> float:
        return float(weight @ shared / weight.sum())

    low, high = _estimate.by_cluster(mean, cluster, seed=1, draws=400)
    alone = _estimate.by_cluster(mean, np.arange(2000), seed=1, draws=400)
    assert high - low == pytest.approx(2 * 1.96 * shared.std() / np.sqrt(50), rel=0.2)
    assert alone[1] - alone[0] < 0.4 * (high - low)


def test_agreement_names_the_cells_that_are_apart() -> None:
    agree, apart = _estimate.agreement(
        [("near", 0.7001, 0.7, 5e-4), ("far", 0.702, 0.7, 5e-4), ("nan", math.nan, 1, 1)]
    )
    assert agree == 1
    assert [line.split(":")[0] for line in apart] == ["far", "nan"]


def test_mini_batches_cover_the_second_half_once() -> None:
    cuts = _serve.edges(100_000, 50_000, 200)
    assert (cuts[0], cuts[-1], len(cuts)) == (50_000, 100_000, 201)
    assert set(np.diff(cuts)) == {250}


def test_the_drift_rule_is_a_squared_of_98_percent_per_mini_batch() -> None:
    a = float(_fold.time_factor(1.0, _simulation.DRIFT_HALF_LIFE))
    assert a**2 == pytest.approx(0.98)
    assert a == pytest.approx(float(_fold.drift_coefficient(1.0, growth=0.02, prior_precision=1.0)))


def test_full_updates_without_forgetting_keep_the_lift_of_the_refit() -> None:
    setting = _simulation.Setting(entities=30, batches=6, first=3)
    found = _simulation.lifts(0, 0.5, False, setting, learned=False)
    assert found["refit"] == 1.0
    assert found["fixed"] == 0.0
    assert found["full 1"] == pytest.approx(1.0, abs=0.02)
    assert found["stale"] < 0.95


def _one_entity(delta: float) -> GLMix:
    effect = Random("e", prior=Prior(1.0), forgetting=Forgetting(form="per_update", delta=delta))
    schema = Schema(label="y", columns={"x": Numeric(center=0.0, scale=1.0)})
    return GLMix(schema, fixed=Fixed(intercept=False), random=[effect], mode="minibatch", link="identity")


def test_the_last_window_starts_from_the_prior_and_leaves_other_entities_alone() -> None:
    model = _one_entity(1.0)
    model.partial_fit({"e": [1, 2], "y": [3.0, 4.0]})
    part = model.design({"e": [1], "y": [1.0]}, learn=True)[0]
    _serve.last_window(model, part)
    np.testing.assert_allclose(model.block("e").mean[:2, 0], [0.5, 2.0])


def test_the_reference_tables_are_complete() -> None:
    assert all(len(row) == len(_reference.RULES) for row in _reference.SIMULATION.values())
    assert {key: len(row) for key, row in _reference.SIMULATION_SD.items()} == dict.fromkeys(_reference.SIMULATION, 7)


def test_a_section_of_the_page_is_replaced_and_the_rest_kept(tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    page.write_text(
        "# R\n<!-- a: begin -->\nold\n<!-- a: end -->\n<!-- b: begin -->\n<!-- b: end -->\n", encoding="utf-8"
    )
    _results.write_section("a", "new\n", page)
    _results.write_section("a", "newer\n", page)
    assert page.read_text(encoding="utf-8") == (
        "# R\n<!-- a: begin -->\nnewer\n<!-- a: end -->\n<!-- b: begin -->\n<!-- b: end -->\n"
    )
    with pytest.raises(SystemExit, match="no section"):
        _results.write_section("c", "", page)


def test_the_same_numbers_make_the_same_figure_to_the_byte(tmp_path: Path) -> None:
    found = []
    for folder in ("one", "two"):
        with _draw.figure(tmp_path / folder / "f.svg", 1, (3, 2)) as axis:
            axis.errorbar([0, 1], [1, 2], [0.1, 0.2], label="a")
            axis.legend()
        found.append((tmp_path / folder / "f.svg").read_bytes())
    assert found[0] == found[1]
    assert b"<svg" in found[0]


def test_a_warm_start_fits_the_slice_alone_and_keeps_the_absent() -> None:
    model = GLMix(Schema(label="y"), random=[Random("user")])
    model.fit({"user": [1, 1, 2, 2, 2], "y": [1, 1, 0, 0, 1]})
    at = model.encoder.entity_codes("user")
    block, absent = model.block("user"), model.block("user").mean[at[2]].copy()
    part = model.design({"user": [1, 1, 1, 1], "y": [0, 1, 0, 0]}, learn=True)[0]
    _slices.warm_start(model, part)
    alone = GLMix(Schema(label="y"), random=[Random("user")])
    alone.fit({"user": [1, 1, 1, 1], "y": [0, 1, 0, 0]})
    assert block.mean[at[2]] == absent
    assert block.mean[at[1]] == pytest.approx(alone.block("user").mean[0], abs=1e-2)


def test_drawn_means_are_those_of_whole_clusters() -> None:
    rng = np.random.default_rng(0)
    loss = {"stale": rng.random(60), "refit": rng.random(60)}
    run = _slices.Run(loss, cluster=np.repeat(np.arange(3), [10, 20, 30]))
    drawn = run.drawn_means(200)
    possible = {
        round(float(np.average(loss["stale"], weights=np.repeat(times, [10, 20, 30]))), 9)
        for times in np.ndindex(4, 4, 4)
        if sum(times) == 3
    }
    assert {round(value, 9) for value in drawn["stale"].tolist()} <= possible
    assert len(set(drawn["stale"].tolist())) > 3
