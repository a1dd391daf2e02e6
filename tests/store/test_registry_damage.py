"""A registry that is damaged, of something else, or closed says so with the fix."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest
from tests.store.registry_parts import ANN, Clock, live, publish

from nearline import StateError
from nearline.store import Registry, Version


@pytest.mark.parametrize("damage", ["text", "truncated", "scribbled"])
def test_a_damaged_database_is_said_with_the_fix(tmp_path: Path, clock: Clock, damage: str) -> None:
    registry = Registry(tmp_path, clock=clock)
    publish(registry, *(f"1.{n}.0" for n in range(40)))
    registry.close()
    path = tmp_path / "registry.sqlite"
    data = path.read_bytes()
    bad = {"text": json.dumps({"no": "database"} | {str(n): n for n in range(999)}).encode(), "truncated": data[:6000]}
    path.write_bytes(bad.get(damage, data[:100] + os.urandom(200) + data[300:]))
    with pytest.raises(StateError, match=r"registry\.sqlite.*restore it from a copy, or move registry\.sqlite\* away"):
        Registry(tmp_path, clock=clock)
    # The fix that the message names: the folders are all there and can be registered again.
    for found in tmp_path.glob("registry.sqlite*"):
        found.unlink()
    registry = Registry(tmp_path, clock=clock)
    for number in range(40):
        version = Version(1, number)
        registry.register(registry.versions_folder / str(version), version, **ANN)
    registry.publish(Version(1, 39), **ANN)
    assert live(registry) == "1.39.0"
    registry.close()


def test_a_database_of_something_else_is_refused(tmp_path: Path, clock: Clock) -> None:
    other = sqlite3.connect(tmp_path / "registry.sqlite")
    other.execute("CREATE TABLE t (x)")
    other.commit()
    other.close()
    with pytest.raises(StateError, match="is no registry of format 1"):
        Registry(tmp_path, clock=clock)


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match=r"cannot be made.*give the process a folder that it may write"):
        Registry(tmp_path / "file" / "state", clock=clock)


def test_a_closed_registry_says_so(tmp_path: Path, clock: Clock) -> None:
    registry = Registry(tmp_path, clock=clock)
    registry.close()
    with pytest.raises(StateError, match="the registry was closed; open it again"):
        registry.live()
