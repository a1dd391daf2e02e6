"""Models on disk: nothing is lost, nothing broken is loaded, and a crash leaves the old model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from nearline import (
    Categorical,
    Fixed,
    Forgetting,
    GLMix,
    Hashed,
    Loadings,
    Multi,
    Numeric,
    Prior,
    Random,
    Schema,
    StateError,
    Vector,
)
from nearline.glmix import _save

SCHEMA = Schema(
    label="y", time="t", id="id", weight="w", offset="o",
    columns={"x": Numeric(1.0, 2.0), "tags": Multi("|"), "text": Hashed(bits=3), "v": Vector(), "age": Categorical()},
)  # fmt: skip
WALKS = Forgetting(half_life=float("inf"), form="stabilised", walk_per_event={"x": 0.01, "*": 0.0}, walk_per_day=0.5)
KINDS: dict[str, tuple[Fixed | None, list[Any]]] = {
    "nothing but an intercept": (None, []),
    "fixed": (Fixed("x", "tags", "text", "v", "age", prior=Prior({"x": 2.0, "*": 0.5}, {"x": 0.1})), []),
    "no fixed": (Fixed(intercept=False), [Random("user", on=["x"], posterior="diagonal", rank=3)]),
    "composite": (Fixed("x", posterior="diagonal"), [Random(("user", "item"), on=["x"], intercept=False, name="pair")]),
    "low rank": (Fixed("x", "text", posterior="lowrank", rank=2), [Random("user", on=["text"], posterior="lowrank")]),
    "parent": (Fixed(), [Random("item", on=["age"], parent="user")]),
    "forgetful": (
        Fixed("x", forgetting=Forgetting(half_life=60.0)),
        [
            Random("user", on=["x"], forgetting=WALKS),
            Random("item", forgetting=Forgetting(form="per_update", delta=0.9)),
        ],
    ),
    "loadings": (
        Fixed("x"),
        [Random("user", on=["age"]), Loadings("item", of="user", name="factor", prior=Prior(0.2))],
    ),
}


def table(seed: int = 0, n: int = 60) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "id": [f"{seed}-{i}" for i in range(n)],
        "user": rng.integers(0, 5, n),
        "item": [["a", "b", "ü", ""][i] for i in rng.integers(0, 4, n)],
        "x": rng.normal(size=n),
        "tags": ["|".join(rng.choice(["p", "q", "r"], 2)) for _ in range(n)],
        "text": [f"word{i}" for i in rng.integers(0, 20, n)],
        "v": [rng.normal(size=2).tolist() for _ in range(n)],
        "age": rng.integers(20, 24, n),
        "y": rng.integers(0, 2, n),
        "t": np.sort(rng.uniform(0, 1e5, n)),
        "w": rng.uniform(0.5, 2.0, n),
        "o": rng.normal(size=n),
    }


def model_of(kind: str, **options: Any) -> GLMix:
    fixed, random = KINDS[kind]
    return GLMix(SCHEMA, fixed, random, **options)


def same(one: GLMix, two: GLMix) -> None:
    for name in ("schema", "fixed", "random", "link", "mode", "dtype", "dispersion", "threads", "refresh_every"):
        assert getattr(one, name) == getattr(two, name)
    assert one.events_learned == two.events_learned
    vocabularies = [
        (m.encoder.slot_names, m.encoder.slot_columns, m.encoder.keys, m.encoder.features) for m in (one, two)
    ]
    assert vocabularies[0] == vocabularies[1]
    for key in one.encoder.keys:
        assert dict(one.encoder.entity_codes(key)) == dict(two.encoder.entity_codes(key))
    assert len(one.blocks) == len(two.blocks)
    for a, b in zip(one.blocks, two.blocks):
        assert (a.effect, a.kind, a.d, a.entities) == (b.effect, b.kind, b.d, b.entities)
        assert (a.slots, a.columns, a.known_slots) == (b.slots, b.columns, b.known_slots)
        assert (a.belief.prior, a.belief.forgetting) == (b.belief.prior, b.belief.forgetting)
        for old, new in ((a.belief.mean, b.belief.mean), (a.belief.covariance, b.belief.covariance)):
            assert (old is None and new is None) or (
                old is not None and new is not None and old.tobytes() == new.tobytes()
            )
        for name in ("mean", "cov", "last", "counts"):
            old, new = getattr(a, name)[: a.entities], getattr(b, name)[: b.entities]
            assert (old.dtype, old.shape, old.tobytes()) == (new.dtype, new.shape, new.tobytes())


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


# -- what must not be loaded -------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = model_of("loadings")
    model.partial_fit(table())
    return model.save(tmp_path / "model")


def part(folder: Path, name: str) -> Path:
    return next(path for path in folder.iterdir() if path.name.startswith(name))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "holds no model: manifest.json is missing"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "holds no model: manifest.json is missing"),
    "no state": (lambda f: part(f, "state").unlink(), "state-.* is missing"),
    "no vocabulary": (lambda f: part(f, "vocabulary").unlink(), "vocabulary-.* is missing"),
    "cut manifest": (lambda f: cut(f / "manifest.json"), "is not readable JSON"),
    "binary manifest": (lambda f: (f / "manifest.json").write_bytes(b"\xff\xfe\x00"), "is not readable JSON"),
    "list for a manifest": (lambda f: (f / "manifest.json").write_text("[]"), "has format None"),
    "cut state": (lambda f: cut(part(f, "state")), "state-.* was truncated or altered"),
    "cut vocabulary": (lambda f: cut(part(f, "vocabulary")), "vocabulary-.* was truncated or altered"),
    "empty state": (lambda f: part(f, "state").write_bytes(b""), "was truncated or altered: 0 bytes"),
    "altered state": (lambda f: flip(part(f, "state")), "state-.* was truncated or altered"),
    "altered vocabulary": (lambda f: flip(part(f, "vocabulary")), "vocabulary-.* was truncated or altered"),
    "other format": (lambda f: edit(f, lambda m: m.update(format=2)), "has format 2; this version of nearline reads 1"),
    "no format": (lambda f: edit(f, lambda m: m.pop("format")), "has format None"),
    "edited setting": (lambda f: edit(f, lambda m: m["settings"].update(link="log")), "its checksum does not match"),
    "edited prior": (
        lambda f: edit(f, lambda m: m["blocks"][1]["prior"].update(variance=9.0)),
        "its checksum does not match",
    ),
    "no checksum": (lambda f: edit(f, lambda m: m.pop("checksum")), "its checksum does not match"),
}


@pytest.mark.parametrize(("harm", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_model_is_not_loaded(harm: Callable[[Path], object], message: str, saved: Path) -> None:
    harm(saved)
    with pytest.raises(StateError, match=message):
        GLMix.load(saved)


@pytest.mark.parametrize("litter", ["notes.txt", "stateful.safetensors"])
def test_a_folder_of_something_else_is_left_alone(litter: str, tmp_path: Path) -> None:
    (tmp_path / litter).write_text("mine")
    with pytest.raises(StateError, match="exists and holds something else than a model"):
        model_of("fixed").save(tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StateError, match="exists and holds something else than a model"):
        model_of("fixed").save(tmp_path / "file")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {litter: "mine", "file": "mine"}


def test_an_empty_folder_is_as_good_as_none(tmp_path: Path) -> None:
    model_of("fixed").save(tmp_path)
    same(model_of("fixed"), GLMix.load(tmp_path))


def test_files_beside_a_model_are_left_alone(saved: Path) -> None:
    (saved / "notes.txt").write_text("mine")
    GLMix.load(saved).save(saved)
    assert (saved / "notes.txt").read_text() == "mine"


# -- crashes ---------------------------------------------------------------------------------------------------------

CRASH = """
import os, sys
from pathlib import Path
from nearline import GLMix

count, real = 0, Path.replace

def replace(self, target):
    global count
    count += 1
    if count == int(sys.argv[2]):
        os.kill(os.getpid(), 9)
    return real(self, target)

Path.replace = replace
model = GLMix.load(sys.argv[1])
model.reset()
model.save(sys.argv[1])
"""


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_kill_before_any_rename_leaves_the_old_model(step: int, saved: Path) -> None:
    """Three renames: state, vocabulary, manifest; the last is what publishes."""
    old = GLMix.load(saved)
    command = [sys.executable, "-c", CRASH, str(saved), str(step)]
    assert subprocess.run(command, check=False, env=os.environ).returncode == -9
    same(old, GLMix.load(saved))
    new = GLMix.load(saved)
    new.partial_fit(table(5))
    new.save(saved)
    same(new, GLMix.load(saved))
    assert len(list(saved.iterdir())) == 3


def test_a_kill_before_the_old_files_are_gone_leaves_the_new_model(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = GLMix.load(saved)
    model.partial_fit(table(3))

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fail)
        with pytest.raises(KeyboardInterrupt):
            model.save(saved)
    same(model, GLMix.load(saved))
    assert len(list(saved.iterdir())) > 3
    model.save(saved)
    assert len(list(saved.iterdir())) == 3


def test_a_save_that_fails_leaves_the_old_model_and_no_litter(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    model = GLMix.load(saved)
    model.partial_fit(table(3))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_save, "sync", full)
    with pytest.raises(OSError, match="No space left"):
        model.save(saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_a_reader_overtaken_by_a_writer_reads_the_newer_model(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = GLMix.load(saved)
    newer.partial_fit(table(3))
    real, saves = _save._read_manifest, []

    def overtaken(folder: Path) -> dict[str, Any]:
        manifest = real(folder)
        if not saves:
            saves.append(newer.save(folder))
        return manifest

    monkeypatch.setattr(_save, "_read_manifest", overtaken)
    same(newer, GLMix.load(saved))
    assert saves == [saved]


def test_nothing_on_disk_is_a_pickle(saved: Path) -> None:
    assert {path.suffix for path in saved.iterdir()} == {".json", ".safetensors", ".arrow"}
    manifest = json.loads((saved / "manifest.json").read_text())
    assert manifest["files"].keys() == {"state", "vocabulary"}
    for entry in manifest["files"].values():
        assert (saved / entry["name"]).stat().st_size == entry["bytes"]
