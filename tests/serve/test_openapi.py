"""The OpenAPI document says what the app does: schemathesis makes requests from it and holds every answer to it."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from nearline.serve import App
from nearline.serve._problems import STATUSES


def test_the_document_lists_every_route_and_every_error(client: Any) -> None:
    document = client("GET", "/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    routes = {route.path for route in client.app.control._router.routes} | {"/predict", "/outcome"}
    assert set(document["paths"]) == {path for path in routes if not path.startswith("/static")} - {"/", "/api/events"}
    answers = document["paths"]["/predict"]["post"]["responses"]
    assert set(answers) == {"200"} | {str(status) for status in STATUSES.values()} - {"401"}
    row = document["components"]["schemas"]["Row"]
    assert set(row["properties"]) == {"member", "ad", "country", "price", "tags", "when"}
    assert row["required"] == ["member", "ad"]


def test_with_tokens_it_says_so(service: Any, client_of: Any, tokens: Any) -> None:
    document = client_of(service, tokens=tokens)("GET", "/openapi.json").json()
    assert document["paths"]["/outcome"]["post"]["security"] == [{"token": []}]
    assert "401" in document["paths"]["/predict"]["post"]["responses"]


PATHS = ("/predict", "/outcome", "/versions/publish", "/versions/rollback", "/healthz", "/readyz", "/metrics",
         "/api/status", "/versions", "/openapi.json")  # fmt: skip


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: str(mode.name))
@pytest.mark.parametrize("path", PATHS)
def test_every_answer_is_as_described(service: Any, path: str, mode: Any) -> None:
    # What does not fit the document is refused, and every answer has the form that it describes. The other way round
    # the document is wider: 1.0 is an integer in JSON Schema and not here, and times have a range.
    schema = schemathesis.openapi.from_asgi("/openapi.json", App(service))
    method = "POST" if path in PATHS[:4] else "GET"
    if method == "GET" and mode is GenerationMode.NEGATIVE:
        pytest.skip("these take nothing that could be wrong")

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    check()
