"""What a batch fit tells of itself: every block of every cycle, in the order asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nearline import ConfigError, Fixed, GLMix, Loadings, Numeric, Prior, Random, Schema

SCHEMA = Schema(label="y", columns={"x": Numeric(0, 1)})
NAMES = ("fixed", "user", "item")


def model(**options: Any) -> GLMix:
    return GLMix(SCHEMA, Fixed("x"), [Random("user", on=["x"], prior=Prior(0.5)), Random("item")], **options)


def table(n: int = 300) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    x, user, item = rng.normal(size=n), rng.integers(0, 20, n), rng.integers(0, 10, n)
    y = rng.random(n) < 1 / (1 + np.exp(-(0.5 * x + np.sin(user) + np.cos(item))))
    return {"x": x, "user": user, "item": item, "y": y.astype(int)}


def test_every_block_of_every_cycle_is_reported() -> None:
    ticks = iter(np.arange(1e6))
    report = model().fit(table(), cycles=4, tolerance=0.0, clock=lambda: float(next(ticks)))
    assert [(b.cycle, b.effect) for b in report.blocks] == [(c, name) for c in range(1, 5) for name in NAMES]
    objective = np.array([b.objective for b in report.blocks])
    assert (np.diff(objective) <= 1e-9 * objective[1:]).all()
    assert [b.objective for b in report.blocks[2::3]] == list(report.objective)
    assert all(b.seconds == 1.0 for b in report.blocks)
    assert all(b.rows == 300 and b.variances == "exact" and b.unsolved == 0 for b in report.blocks)
    assert report.blocks[1].status["converged"] == 20
    assert report.blocks[1].iterations == 20  # a step each, before the last cycle
    assert report.blocks[-2].iterations > 20
    # What the others' moves leave a block to do fades.
    assert all(late.gradient_norm < 0.1 * early.gradient_norm for early, late in zip(report.blocks, report.blocks[-3:]))
    lines = str(report).splitlines()
    assert len(lines) == 14
    assert lines[0].split() == ["cycle", "effect", "objective", "gradient", "steps", "unsolved", "seconds"]
    assert lines[-1] == "not converged"


def test_the_gradient_reported_is_that_of_the_objective_as_a_block_s_turn_came() -> None:
    data = table()
    chosen, after = model(), model()
    report = chosen.fit(data, cycles=1)
    after.fit(data, cycles=1, locked=["user", "item"])  # the fixed effect alone: what users found
    block = chosen.block("user")
    codes = np.array([chosen.encoder.entity_codes("user")[u] for u in data["user"].tolist()])
    gradient = np.zeros((block.entities, 2))
    residual = after.predict_proba(data) - data["y"]
    np.add.at(gradient, codes, np.column_stack([np.ones(300), data["x"]]) * residual[:, None])
    assert report.blocks[1].gradient_norm == pytest.approx(float(np.linalg.norm(gradient)), rel=1e-5)


def test_the_order_is_as_asked_and_the_optimum_the_same() -> None:
    data = table()
    usual, turned = model(), model()
    usual.fit(data, cycles=500, tolerance=0.0)
    report = turned.fit(data, cycles=500, tolerance=0.0, order=["item", "fixed"])
    assert [b.effect for b in report.blocks[:4]] == ["item", "fixed", "user", "item"]
    for name in NAMES:
        one, two = usual.block(name), turned.block(name)
        np.testing.assert_allclose(one.mean[: one.entities], two.mean[: two.entities], atol=1e-5)
    with pytest.raises(ConfigError, match="no effect is named 'ad'"):
        model().fit(data, order=["ad"])
    for order, locked in ((["item", "item"], []), (["item"], ["item"])):
        with pytest.raises(ConfigError, match="'item', which is locked or named twice"):
            model().fit(data, order=order, locked=locked)


def test_a_product_has_no_gradient_of_its_own() -> None:
    schema = Schema(label="y", columns={"x": Numeric(0, 1)})
    effects = [Random("user", on=["x"]), Loadings("item", of="user")]
    report = GLMix(schema, Fixed("x"), effects).fit(table(), cycles=2)
    norms = {b.effect: b.gradient_norm for b in report.blocks}
    assert np.isnan(norms["user"])
    assert np.isnan(norms["item*user"])
    assert np.isfinite(norms["fixed"])


def test_a_progress_bar_is_shown_on_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal
    model().fit(table(), cycles=2)
    assert capsys.readouterr().err == ""
    model().fit(table(), cycles=2, progress=True)
    assert "fitting" in capsys.readouterr().err
