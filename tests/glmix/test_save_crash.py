"""Models on disk: a crash leaves the old model or the new one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.glmix.save_parts import same, table

from nearline import GLMix
from nearline.glmix import _save

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
