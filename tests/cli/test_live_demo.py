"""`nearline demo` as somebody meets it: Ctrl-C ends it with a summary, and nothing of anybody else's is overwritten."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nearline import ConfigError, StateError
from nearline.cli import _live_demo, _run
from nearline.cli._app import app
from nearline.simulate import Traffic


def test_interrupted_it_ends_with_a_summary_and_leaves_a_service_to_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nearline", "demo", "--seconds", "0", "--rate", "300", "--headless"]
    demo = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert demo.stderr is not None
    assert any("dashboard: http://127.0.0.1:" in line for line in demo.stderr)
    time.sleep(4.0)
    demo.send_signal(signal.SIGINT)
    summary, said = demo.communicate(timeout=180)
    assert demo.returncode == 0, said
    for words in ("nearline, as served", "best possible (truth)", "after it was acknowledged", "report: "):
        assert words in summary
    assert "nan" not in summary
    assert "failed" not in summary
    out = tmp_path / "nearline-demo"
    assert "live run" in (out / "report.html").read_text("utf-8")
    assert "stopped; version 1.0." in (out / "service.log").read_text("utf-8")
    listed = CliRunner().invoke(app, ["versions", str(out / "nearline.toml")])
    assert listed.exit_code == 0
    assert "learner: the service stopped" in listed.output


def test_it_overwrites_nothing_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "nearline.toml").write_text("# mine\n")
    with pytest.raises(ConfigError, match="not of an earlier demo; choose another --out"):
        _live_demo.prepare(traffic(), tmp_path, 0.0, quiet=True)
    assert [file.name for file in tmp_path.iterdir()] == ["nearline.toml"]
    (tmp_path / "nearline.toml").unlink()
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "letters").write_text("dear")
    with pytest.raises(ConfigError, match="not a state directory of nearline"):
        _live_demo.prepare(traffic(), tmp_path, 0.0, quiet=True)
    assert (tmp_path / "state" / "letters").read_text() == "dear"


def traffic() -> Traffic:
    return _live_demo.Plan(seconds=5.0, rate=100.0, seed=0).traffic()


def test_a_directory_that_is_served_is_refused_by_its_name(tmp_path: Path) -> None:
    lock = tmp_path / "ledger" / "predictions" / "lock"
    lock.parent.mkdir(parents=True)
    with lock.open("wb") as held:
        _run.require_free(tmp_path)
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StateError, match="is served by another process"):
            _run.require_free(tmp_path)
    _run.require_free(tmp_path)
