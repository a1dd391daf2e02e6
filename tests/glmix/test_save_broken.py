"""Models on disk: nothing broken is loaded, and what is no model is left alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.glmix.save_parts import model_of, same

from nearline import GLMix, StateError


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
