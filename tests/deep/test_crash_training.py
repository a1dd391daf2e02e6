"""kill -9 in the midst of `nearline train`: the next goes on from what is durable, and ends as if nothing had been.

A real process is killed at a moment that is named, when the n-th call of a function has done its work.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.loop.deep_parts import SAFETY, Talk, configured, model_of, said

pytest.importorskip("torch", reason="nearline.deep needs torch: pip install 'nearline[deep]'")

from nearline import StateError
from nearline.cli._schedule import Trainings
from nearline.loop import SelectionLog, Unfinished, audit, was_left
from nearline.store import Conflict, Registry, Version

DEEP = """
[deep]
slices = "member"
leverage = ["device"]
shadow = "uniform"
budget = 0.25
window = 100
seed = 7

[deep.select]
rule = "pps"
floor = 0.1
trust = "cells"
leverage = true
sampler = "cube"
order = "slice"
balance = ["sketch", "loss", "slice_error"]
"""
EASY = "minimum = 20\ntolerance = 9.0\ncalibration_error = 1.0\nnegative_flips = 1.0\ncalibration = [0.1, 10.0]"

DEADLY = """
import os, signal, sys
from importlib import import_module
module, owner, name, count, word = sys.argv[1:6]
home = import_module(module)
home = getattr(home, owner) if owner else home
real, calls = getattr(home, name), []
def deadly(*args, **kwargs):
    found = real(*args, **kwargs)
    calls.append(1) if not word or word in args else None
    if len(calls) == int(count):
        os.kill(os.getpid(), signal.SIGKILL)
    return found
setattr(home, name, deadly)
sys.argv[:] = ["nearline", *sys.argv[6:]]
from nearline.cli import main
main()
"""
BEFORE = {
    "while selecting": ("nearline.deep._trainer", "", "choose", 2, ""),
    "mid-epoch": ("nearline.deep._steps", "Steps", "_step", 2, ""),
    "while the network for comparison learns": ("nearline.deep._steps", "Steps", "_step", 5, ""),
    "when it is saved": ("nearline.loop._selection_log", "SelectionLog", "stage", 2, ""),
    "when it is marked": ("nearline.loop._unfinished", "Unfinished", "mark", 1, ""),
    "in the transaction that registers it": ("nearline.store._version_folders", "", "move", 1, ""),
}
"""Nothing is durable yet: it is trained again, with the same draws."""
AFTER = {
    "when it is registered": ("nearline.store._registry", "Registry", "register", 1, ""),
    "when it is judged": ("nearline.cli._gate", "", "judged", 1, ""),
    "in the transaction that publishes it": ("nearline.store._registry", "Registry", "_append", 1, "publish"),
    "when it is published": ("nearline.store._registry", "Registry", "publish", 1, ""),
}
"""It is registered: it is not trained again."""


def trained(config: Path) -> Any:
    """What `nearline train` says, as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "nearline", "train", str(config), "--json"], capture_output=True, text=True, env=alone()
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def killed(config: Path, moment: tuple[str, str, str, int, str]) -> None:
    """`nearline train`, killed at a moment."""
    command = [sys.executable, "-c", DEADLY, *map(str, moment), "train", str(config), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=alone())
    assert done.returncode == -signal.SIGKILL, done.stderr


def alone() -> dict[str, str]:
    return {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")}


def versions(config: Path) -> list[str]:
    """What trainings registered."""
    registry = Registry(config.parent / "state", clock=time.time)
    try:
        return [str(record.version) for record in registry.versions() if record.who == "train"]
    finally:
        registry.close()


def saved(config: Path, version: str) -> dict[str, bytes]:
    """Every file of a version: network, its optimiser, effects, log, what selectors remember."""
    folder = config.parent / "state" / "versions" / version
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration whose version 1.0.0 is live, with 400 examples after it."""
    file = configured(tmp_path_factory.mktemp("served"), DEEP, gate=f"true\n{EASY}")
    said("fit", str(file))
    with Talk(file) as talk:
        talk.stream(400, 1)
    return file


def marked(state: Path, error: BaseException) -> None:
    """A training that ends with an error after it has marked what it made."""
    with Unfinished(state) as work:
        work.mark(Version(2), live=Version(1))
        raise error


def copied(config: Path, folder: Path) -> Path:
    shutil.copytree(config.parent, folder)
    return folder / config.name


def test_a_training_killed_at_any_moment_ends_as_if_it_had_not_been(served: Path, tmp_path: Path) -> None:
    calm, config = copied(served, tmp_path / "calm"), copied(served, tmp_path / "killed")
    state, whole = config.parent / "state", trained(calm)
    assert (whole["version"], whole["published"], whole["seen"]) == ("2.0.0", True, whole["cutoff"])
    for moment in BEFORE.values():
        killed(config, moment)
        assert versions(config) == []
        assert not SelectionLog(state).path(Version(2)).exists()
    for moment in AFTER.values():
        killed(config, moment)
        assert versions(config) == ["2.0.0"]
        assert was_left(state) is not None
    assert trained(config) == whole
    assert was_left(state) is None

    # The same network, bit for bit; and the log has every window once.
    assert model_of(config, "2.0.0").identity == model_of(calm, "2.0.0").identity
    assert saved(config, "2.0.0") == saved(calm, "2.0.0")
    for shadow in (False, True):
        path, other = (SelectionLog(one.parent / "state").path(Version(2), shadow) for one in (config, calm))
        assert path.read_bytes() == other.read_bytes()
    assert SelectionLog(state).read(Version(2)).column("window").to_pylist() == [0, 1, 2]
    registry = Registry(state, clock=time.time)
    published = [one for one in registry.history() if one.action == "publish" and one.version == Version(2)]
    registry.close()
    assert len(published) == 1


def test_windows_go_on_after_kills_and_none_is_trained_on_twice_or_left_out(served: Path, tmp_path: Path) -> None:
    config = copied(served, tmp_path / "killed")
    state = config.parent / "state"
    killed(config, AFTER["in the transaction that publishes it"])
    assert trained(config)["version"] == "2.0.0"
    with Talk(config) as talk:
        talk.turn()
        ids = talk.stream(300, 2)
    killed(config, BEFORE["mid-epoch"])
    killed(config, AFTER["when it is registered"])
    # The service that finds it finishes it once, however long ago the last version was made.
    scheduled = Trainings(config, state, 3600.0)
    assert scheduled._due(time.time())
    scheduled._tried = time.time()
    assert not scheduled._due(time.time())
    third = trained(config)
    assert (third["version"], third["published"]) == ("3.0.0", True)
    logs = [SelectionLog(state).read(Version(whole)) for whole in (2, 3)]
    windows = pa.concat_tables(logs, promote_options="permissive").column("window").to_pylist()
    assert windows == list(range(len(windows)))
    offered = [name for log in logs for row in log.column("prediction").to_pylist() for name in row]
    assert sorted(offered) == list(range(len(offered)))
    with Talk(config) as talk:
        talk.turn()
        assert talk.predict({"member": [1], "price": [0.0], "device": ["phone"]})[0]["version"].startswith("3.0.")
    found = audit(state, SAFETY)
    assert (found.doubled, found.posteriors_differ) == (0, 0)
    assert set(ids) <= set(found.labels)


def test_one_training_at_a_time_and_what_ends_by_itself_leaves_nothing(served: Path, tmp_path: Path) -> None:
    config = copied(served, tmp_path / "one")
    state = config.parent / "state"
    with Unfinished(state) as work:
        with pytest.raises(StateError, match="another training is at work"):
            said("train", str(config))
        work.mark(Version(2), live=Version(1))
        assert was_left(state) is None  # it is at work
    with pytest.raises(KeyError):
        marked(state, KeyError())
    assert was_left(state) is None
    with pytest.raises(KeyboardInterrupt):
        marked(state, KeyboardInterrupt())
    assert was_left(state) is not None
    # What was marked was never registered: it is trained from the start.
    assert said("train", str(config), "--no-publish")["version"] == "2.0.0"
    assert was_left(state) is None


def test_what_was_made_for_a_line_that_is_gone_is_kept_and_the_next_begins_anew(served: Path, tmp_path: Path) -> None:
    config = copied(served, tmp_path / "gone")
    killed(config, AFTER["when it is registered"])
    assert said("refit", str(config))["version"] == "1.1.0"
    with pytest.raises(Conflict, match=r"2\.0\.0 was made while 1\.0\.400 was live, and 1\.1\.0 is now"):
        said("train", str(config))
    made = said("train", str(config))
    assert (made["version"], made["published"]) == ("3.0.0", True)
