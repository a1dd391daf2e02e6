"""The requests of `docs/http.md` are answered as it says, by a service that runs; the file of `docs/live.md` fits."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nearline.cli._app import app

LIVE = Path(__file__).parents[2] / "docs" / "live.md"
PAGE = Path(__file__).parents[2] / "docs" / "http.md"
EXAMPLE = re.compile(r"```sh\ncurl --json '([^\n]*)' http://127.0.0.1:8080([^\n]*)\n```\n+```json\n(.*?)```", re.DOTALL)


def test_the_examples_are_what_a_service_answers(running: Any) -> None:
    """One after the other, from the first prediction on; numbers to 0.02, everything else to the letter."""
    examples = EXAMPLE.findall(PAGE.read_text("utf-8"))
    assert len(examples) == 7
    tag = ""
    for body, path, shown in examples:
        answer = json.dumps(running.ask(path, json.loads(body.replace("q7mzkd3n", tag))))
        tag = tag or json.loads(answer)["predictions"][0]["prediction_id"].partition("-")[0]
        same(json.loads(shown), json.loads(answer.replace(tag, "q7mzkd3n")))


def same(shown: Any, real: Any) -> None:
    if isinstance(shown, dict):
        assert shown.keys() == real.keys()
        for name, value in shown.items():
            same(value, real[name][: len(value)] if name == "explanation" else real[name])
    elif isinstance(shown, list):
        assert len(shown) == len(real)
        for one, other in zip(shown, real):
            same(one, other)
    else:
        assert shown == (pytest.approx(real, abs=0.02) if isinstance(shown, float) else real)


def test_the_arrow_example_runs(running: Any) -> None:
    code = re.search(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert code is not None
    exec(compile(code[1], str(PAGE), "exec"), {"url": running.url, "headers": running.headers("/predict")})


def test_the_commands_that_lead_to_a_service_run(
    write_history: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's file, checked and fitted as the page has it; what `run` does then, the tests above have seen."""
    page = LIVE.read_text("utf-8")
    toml = re.search(r"```toml\n(.*?)```", page, re.DOTALL)
    assert toml is not None
    assert tomllib.loads(toml[1])["live"] == {"folder": "state"}
    (tmp_path / "nearline.toml").write_text(toml[1])
    write_history(tmp_path / "history.parquet")
    monkeypatch.chdir(tmp_path)
    commands = [line.partition("#")[0].split()[1:] for line in page.splitlines() if line.startswith("nearline ")]
    for command in (commands[0], commands[1], commands[3]):
        answer = CliRunner().invoke(app, command)
        assert answer.exit_code == 0, answer.output
    assert [command[0] for command in commands] == [
        "check",
        "fit",
        "run",
        "versions",
        "versions",
        "diff",
        "gate",
        "rollback",
    ]
    assert "1.0.0" in answer.output
    assert "fit from history" in answer.output
