"""/openapi.json: OpenAPI 3.1, from the structs that requests are decoded with, so that it cannot say anything else."""

from __future__ import annotations

from typing import Any

import msgspec

from nearline.serve._asgi import ARROW, JSON
from nearline.serve._messages import (
    Accepted,
    FullExpectation,
    FullProbability,
    Outcome,
    Publish,
    Published,
    Rollback,
    outcomes_request,
    predict_request,
)
from nearline.serve._problems import STATUSES, ErrorResponse
from nearline.serve._service import Limits, Live

_TEXTS = {
    400: "The body is not what its Content-Type says",
    401: "No token",
    403: "A wrong token",
    404: "No such path",
    405: "No such method here",
    409: "The gate refuses it, or something else went live meanwhile",
    413: "The body is too large",
    415: "Another Content-Type is needed",
    422: "A value does not fit; the error names the field",
    429: "Too much to do; come back after Retry-After seconds",
    500: "An unexpected error",
    503: "Not ready, or the disk refuses",
}
_ANY = {"type": "object"}
_BINARY = {"type": "string", "format": "binary"}


def document(live: Live, limits: Limits, version: str, secured: bool) -> dict[str, Any]:
    """The document for the version that is live."""
    item: Any = FullProbability if live.scorer.model.link == "logit" else FullExpectation
    predictions = msgspec.defstruct("PredictResponse", [("predictions", list[item])])
    requests: list[Any] = [predict_request(live.rows.Row, limits.rows), Outcome, outcomes_request(limits.rows)]
    types = [*requests, predictions, Accepted, Publish, Rollback, Published, ErrorResponse]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    predict, outcome, outcomes, predicted, accepted, publish, rollback, published, error = schemas
    posts = {
        "/predict": ("Score rows and record them", "predict", predict, predicted, True),
        "/outcome": ("Tell what happened", "outcome", {"anyOf": [outcomes, outcome]}, accepted, True),
        "/versions/publish": ("Make a version the live one", "admin", publish, published, False),
        "/versions/rollback": ("Return to an earlier version", "admin", rollback, published, False),
    }
    found: dict[str, Any] = {path: {"post": _post(*post, error, secured)} for path, post in posts.items()}
    found |= {path: {"get": _get(text, media, error)} for path, (text, media) in _GETS.items()}
    whole: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "nearline", "version": version, "description": "Scores rows and learns what happened next."},
        "paths": found,
        "components": {"schemas": components},
    }
    if secured:
        whole["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return whole


_GETS = {
    "/healthz": ("Whether the process lives", JSON),
    "/readyz": ("Whether predictions are served", JSON),
    "/metrics": ("Counts for Prometheus", "text/plain"),
    "/api/status": ("What the dashboard shows", JSON),
    "/versions": ("The live version and its history", JSON),
    "/openapi.json": ("This document", JSON),
}


def _content(schema: Any, arrow: bool) -> dict[str, Any]:
    return {JSON: {"schema": schema}} | ({ARROW: {"schema": _BINARY}} if arrow else {})


def _errors(error: Any, statuses: tuple[int, ...]) -> dict[str, Any]:
    return {str(s): {"description": _TEXTS[s], "content": {JSON: {"schema": error}}} for s in statuses}


def _post(text: str, role: str, given: Any, answered: Any, arrow: bool, error: Any, secured: bool) -> dict[str, Any]:
    statuses = tuple(s for s in sorted(set(STATUSES.values())) if secured or s != 401)
    answers = {"200": {"description": "Done, and durable", "content": _content(answered, arrow)}}
    found: dict[str, Any] = {
        "summary": text,
        "requestBody": {"required": True, "content": _content(given, arrow)},
        "responses": answers | _errors(error, statuses),
    }
    return found | ({"security": [{"token": []}], "description": f"Needs a token for {role}."} if secured else {})


def _get(text: str, media: str, error: Any) -> dict[str, Any]:
    schema = _ANY if media == JSON else {"type": "string"}
    done = {"200": {"description": text, "content": {media: {"schema": schema}}}}
    return {"summary": text, "responses": done | _errors(error, (405, 500, 503))}
