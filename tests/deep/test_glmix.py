"""A network under random effects: offsets, calibration, replay under a new network, both parts on disk as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearline import ConfigError, DataError, Fixed, GLMix, Numeric, Random, Schema, StateError
from nearline.evaluate import calibration_ratio, log_loss

pytest.importorskip("torch", reason="torch is not installed: pip install 'nearline[deep]'")

from nearline.deep import MLP, Calibration, DeepGLMix, Network, Optimiser

SCHEMA = Schema(label="y", time="t", columns={"x": Numeric()})
QUICK = Optimiser(learning_rate=0.02, batch_size=64)


def table(n: int = 2000, seed: int = 0, users: int = 20) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    x, user = rng.normal(size=n), rng.integers(0, users, n)
    taste = np.random.default_rng(99).normal(size=users) * 1.5
    eta = 2.0 * np.abs(x) - 1.5 + taste[user]
    y = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(int)
    return {"x": x, "user": user, "y": y, "t": np.arange(n) + 1e4 * seed}


def network(seed: int = 0) -> Network:
    return Network(SCHEMA, ["x"], architecture=MLP((16,)), optimiser=QUICK, seed=seed)


def model(seed: int = 0, **options: Any) -> DeepGLMix:
    return DeepGLMix(network(seed), GLMix(SCHEMA, random=[Random("user")], **options))


@pytest.fixture(scope="module")
def fitted() -> DeepGLMix:
    made = model()
    made.fit(table(), epochs=3)
    return made


def test_the_score_is_the_networks_calibrated_log_odds_plus_the_effects(fitted: DeepGLMix) -> None:
    rows = table(50, seed=1)
    logit = fitted.calibration(fitted.network.decision_function(rows))
    effects = fitted.effects.decision_function({**rows})
    assert fitted.decision_function(rows) == pytest.approx(logit + effects, abs=1e-12)
    assert np.array_equal(fitted.information(rows).logit, fitted.decision_function(rows))
    assert np.array_equal(fitted.information(rows).norm, fitted.network.information(rows).norm)


def test_both_parts_are_worth_something_together(fitted: DeepGLMix) -> None:
    after = table(2000, seed=2)
    linear = GLMix(SCHEMA, Fixed("x"), [Random("user")])
    linear.fit(table())
    losses = [log_loss(after["y"], p.predict_proba(after)) for p in (fitted, fitted.network, linear)]
    assert losses[0] < min(losses[1:]) - 0.02
    assert calibration_ratio(after["y"], fitted.predict_proba(after)) == pytest.approx(1.0, abs=0.06)


def test_an_overconfident_network_is_held_back_by_its_calibration() -> None:
    rng = np.random.default_rng(0)
    n = 1500
    noise = {"ad": [f"a{i}" for i in rng.integers(0, 300, n)], "y": rng.integers(0, 2, n), "t": np.arange(n)}
    eager = Optimiser(learning_rate=0.01, embedding_rate=0.2, batch_size=32)
    sure = DeepGLMix(Network(SCHEMA, ["ad"], optimiser=eager), GLMix(SCHEMA))
    assert abs(sure.fit(noise, epochs=10, held_out=0.4).calibration.slope) < 0.2


def test_priors_are_learned_under_the_networks_offsets(fitted: DeepGLMix) -> None:
    made = DeepGLMix(fitted.network, GLMix(SCHEMA, random=[Random("user")]), calibration=fitted.calibration)
    twin = GLMix(Schema(label="y", time="t", offset="o"), random=[Random("user")])
    offset = fitted.calibration(fitted.network.decision_function(table()))
    for model, rows in ((made, table()), (twin, {**table(), "o": offset})):
        model.learn_priors(rows, method="evidence", rounds=1)
    ours, theirs = (model.blocks[1].belief.variance0(["(intercept)"]) for model in (made, twin))
    assert ours == pytest.approx(theirs, rel=1e-9)
    assert ours != pytest.approx([1.0])


def test_the_speed_layer_leaves_the_network_alone(fitted: DeepGLMix) -> None:
    made = DeepGLMix(fitted.network.fork(), fitted.effects.replica(), calibration=fitted.calibration)
    rows = table(300, seed=3)
    before = made.network.decision_function(rows)
    learned = made.partial_fit(rows)
    assert learned.rows == 300
    assert np.array_equal(made.network.decision_function(rows), before)
    assert log_loss(rows["y"], made.predict_proba(rows)) < log_loss(rows["y"], fitted.predict_proba(rows))


def test_bad_rows_are_put_aside_and_the_offsets_of_the_others_stay_theirs(fitted: DeepGLMix) -> None:
    rows = table(40, seed=4)
    whole, _ = fitted.design(rows, learn=True)
    bad = {**rows, "y": np.where(np.arange(40) == 7, 3, rows["y"])}
    also = {**bad, "x": np.where(np.isin(np.arange(40), (3, 30)), np.inf, rows["x"])}  # only the network reads x
    keyless = {**also, "user": [None if row == 12 else user for row, user in enumerate(rows["user"].tolist())]}
    for given, refused in ((bad, [7]), (also, [3, 7, 30]), (keyless, [3, 7, 12, 30])):
        design, rejects = fitted.design(given, learn=True, divert=True)
        assert rejects.rows.tolist() == refused
        assert ["label" in reason for reason in rejects.reasons] == [row == 7 for row in refused]
        assert np.asarray(rejects.table["y"]).tolist() == [given["y"][row] for row in refused]
        assert np.allclose(design.offset, np.delete(whole.offset, refused), atol=1e-6)
    with pytest.raises(DataError, match="row 3"):
        fitted.design(also, learn=True)


def test_another_networks_effects_are_those_of_a_model_that_had_it_all_along(fitted: DeepGLMix) -> None:
    history = table()
    other = network(seed=5)
    other.fit(history, epochs=2)
    before = fitted.decision_function(history)
    swapped = fitted.with_network(other, history, calibration=Calibration(0.1, 0.9))
    always = DeepGLMix(other, GLMix(SCHEMA, random=[Random("user")]), calibration=Calibration(0.1, 0.9))
    always.partial_fit(history)
    assert np.array_equal(swapped.decision_function(history), always.decision_function(history))
    assert np.array_equal(fitted.decision_function(history), before)


def test_saved_and_loaded_it_is_the_same_model(fitted: DeepGLMix, tmp_path: Path) -> None:
    rows = table(100, seed=6)
    folder = fitted.save(tmp_path / "model")
    again = DeepGLMix.load(folder)
    assert again.calibration == fitted.calibration
    assert np.array_equal(again.decision_function(rows), fitted.decision_function(rows))
    again.partial_fit(rows)
    again.save(folder)
    assert np.array_equal(DeepGLMix.load(folder).decision_function(rows), again.decision_function(rows))
    assert len(list(folder.iterdir())) == 2


def test_a_crash_before_the_manifest_leaves_the_old_model(
    fitted: DeepGLMix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, rows = fitted.save(tmp_path / "model"), table(30, seed=7)
    before = fitted.decision_function(rows)
    other = DeepGLMix(fitted.network, fitted.effects.replica(), calibration=Calibration(1.0, 1.0))
    other.partial_fit(rows)
    real = Path.replace

    def crash(self: Path, target: Any) -> Path:
        if Path(target) == folder / "manifest.json":
            raise OSError("power cut")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(OSError, match="power cut"):
        other.save(folder)
    assert np.array_equal(DeepGLMix.load(folder).decision_function(rows), before)


@pytest.mark.parametrize("victim", ["manifest.json", "effects/manifest.json", "network/manifest.json"])
def test_what_was_altered_is_refused(fitted: DeepGLMix, tmp_path: Path, victim: str) -> None:
    folder = fitted.save(tmp_path / "model")
    path = next(path for path in folder.rglob("manifest.json") if str(path).endswith(victim))
    path.write_text(path.read_text("utf-8").replace("0.", "1.", 1).replace('"seed": 0', '"seed": 1'), "utf-8")
    with pytest.raises(StateError, match="altered"):
        DeepGLMix.load(folder)


def test_parts_that_do_not_fit_are_refused(fitted: DeepGLMix, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one link and label"):
        DeepGLMix(network(), GLMix(SCHEMA, link="identity"))
    with pytest.raises(ConfigError, match="held_out"):
        model().fit(table(10), held_out=1.0)
    fitted.network.save(tmp_path / "network")
    with pytest.raises(StateError, match="holds no DeepGLMix"):
        DeepGLMix.load(tmp_path / "network")
