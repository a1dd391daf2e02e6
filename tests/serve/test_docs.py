"""The requests of `docs/http.md` are answered as it says, by a service that runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

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
