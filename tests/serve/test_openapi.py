"""The OpenAPI document says what the app does: schemathesis makes requests from it and holds every answer to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

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


@pytest.fixture
def described(service: Any) -> Iterator[Any]:
    yield schemathesis.openapi.from_asgi("/openapi.json", App(service))


lazy = schemathesis.pytest.from_fixture("described")


@lazy.parametrize()
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_every_answer_is_as_described(case: Any) -> None:
    case.call_and_validate()
