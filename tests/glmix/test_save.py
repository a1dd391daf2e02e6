"""Models on disk: nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from tests.glmix.save_parts import KINDS, SCHEMA, model_of, same, table

from nearline import Fixed, Forgetting, GLMix, Prior


@pytest.mark.parametrize("kind", KINDS)
def test_a_round_trip_keeps_every_number_and_setting(kind: str, tmp_path: Path) -> None:
    """Acceptance 17 and section 10, defect 8: precision included."""
    model = model_of(kind)
    model.partial_fit(table())
    assert model.save(tmp_path / "model") == tmp_path / "model"
    loaded = GLMix.load(tmp_path / "model")
    same(model, loaded)
    assert loaded.decision_function(table(1)).tobytes() == model.decision_function(table(1)).tobytes()
    for each in (model, loaded):
        each.partial_fit(table(2))
    same(model, loaded)


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "float32"},
        {"link": "identity", "dispersion": 2.5, "threads": 2},
        {"link": "log", "mode": "minibatch", "refresh_every": 7},
    ],
)
def test_a_round_trip_keeps_the_settings(options: dict[str, Any], tmp_path: Path) -> None:
    model = model_of("loadings", **options)
    model.partial_fit(table())
    model.save(tmp_path / "model")
    same(model, GLMix.load(tmp_path / "model"))


def test_numbers_of_numpy_and_frozen_mappings_are_kept(tmp_path: Path) -> None:
    prior = Prior(MappingProxyType({"x": np.float32(0.5), "*": np.float64(2.0)}), np.float32(0.25))
    walk = Forgetting(half_life=np.float32(60.0), walk_per_event=MappingProxyType({"x": np.float32(0.125)}))
    model = GLMix(SCHEMA, Fixed("x", prior=prior, forgetting=walk))
    model.partial_fit(table())
    model.save(tmp_path / "model")
    loaded = GLMix.load(tmp_path / "model")
    assert loaded.fixed.prior == Prior({"x": 0.5, "*": 2.0}, 0.25)
    assert loaded.fixed.forgetting == Forgetting(half_life=60.0, walk_per_event={"x": 0.125})
    for each in (model, loaded):
        each.partial_fit(table(1))
    assert loaded.decision_function(table(2)).tobytes() == model.decision_function(table(2)).tobytes()


def test_a_round_trip_of_a_model_that_has_seen_nothing(tmp_path: Path) -> None:
    model = model_of("composite")
    model.save(tmp_path / "model")
    loaded = GLMix.load(tmp_path / "model")
    same(model, loaded)
    for each in (model, loaded):
        each.partial_fit(table())
    same(model, loaded)


@pytest.mark.parametrize("method", ["evidence", "one_step"])
def test_learned_priors_are_kept(method: Any, tmp_path: Path) -> None:
    """Joint priors (mean and covariance of several dimensions) and searched walks and half-lives."""
    model = model_of("loadings")
    found = model.learn_priors(table(n=120), method=method, rounds=1)
    model.partial_fit(table(1))
    if method == "evidence":
        assert found.beliefs["user"].covariance is not None
    model.refresh_priors(least=2)
    assert model.block("user").belief.mean is not None
    model.save(tmp_path / "model")
    loaded = GLMix.load(tmp_path / "model")
    same(model, loaded)
    for each in (model, loaded):
        each.partial_fit({**table(2), "user": np.arange(60) + 100})
        each.reset()
    same(model, loaded)


def test_saving_again_replaces_the_model_and_leaves_no_litter(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "today"
    model = model_of("loadings")
    model.save(folder)
    first = {path.name for path in folder.iterdir()}
    model.partial_fit(table())
    model.save(folder)
    second = {path.name for path in folder.iterdir()}
    assert len(first) == len(second) == 3
    assert first & second == {"manifest.json"}
    model.save(str(folder))
    assert {path.name for path in folder.iterdir()} == second
    same(model, GLMix.load(str(folder)))


def test_a_fork_behind_its_vocabulary_is_saved_whole(tmp_path: Path) -> None:
    model = model_of("loadings")
    model.partial_fit(table())
    model.fork().partial_fit({**table(1), "user": np.arange(60) + 100, "age": np.arange(60)})
    model.save(tmp_path / "model")
    loaded = GLMix.load(tmp_path / "model")
    data = {**table(2), "user": np.arange(60) + 80, "age": np.arange(60)}
    assert loaded.decision_function(data).tobytes() == model.decision_function(data).tobytes()
    for each in (model, loaded):
        each.partial_fit(data)
    same(model, loaded)


def test_nothing_on_disk_is_a_pickle(saved: Path) -> None:
    assert {path.suffix for path in saved.iterdir()} == {".json", ".safetensors", ".arrow"}
    manifest = json.loads((saved / "manifest.json").read_text())
    assert manifest["files"].keys() == {"state", "vocabulary"}
    for entry in manifest["files"].values():
        assert (saved / entry["name"]).stat().st_size == entry["bytes"]
