"""POST /outcome: checked, resolved to predictions, durable before it is acknowledged; refused outcomes say why."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pytest

from nearline import Fixed, GLMix, Random, Schema
from nearline.serve import Limits

ARROW = {"Content-Type": "application/vnd.apache.arrow.stream"}


def stream(table: Any) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


@pytest.fixture
def ids(client: Any, row: Any) -> list[str]:
    return [p["prediction_id"] for p in client.predict(row, row, row)]


def test_one_outcome(client: Any, service: Any, ids: list[str]) -> None:
    before = service.now()
    answer = client("POST", "/outcome", json={"prediction_id": ids[1], "label": 1})
    assert answer.json() == {"accepted": 1, "rejected": []}
    recorded = service.outcomes_log.read(0).to_pylist()
    assert len(recorded) == 1
    assert {name: recorded[0][name] for name in ("prediction_id", "prediction", "label", "kind")} == {
        "prediction_id": ids[1], "prediction": 1, "label": 1.0, "kind": "outcome",
    }  # fmt: skip
    assert before <= recorded[0]["time"] == recorded[0]["received"] <= service.now()


def test_several_outcomes_of_every_kind(client: Any, service: Any, ids: list[str]) -> None:
    given = [
        {"prediction_id": ids[0], "label": True, "time": 7.5},
        {"prediction_id": ids[1], "label": 0.0, "kind": "correct", "time": "1970-01-01T00:00:09Z"},
        {"prediction_id": ids[0], "kind": "retract"},
    ]
    assert client("POST", "/outcome", json={"outcomes": given}).json()["accepted"] == 3
    recorded = service.outcomes_log.read(0)
    assert recorded["label"].to_pylist() == [1.0, 0.0, None]
    assert recorded["time"].to_pylist()[:2] == [7.5, 9.0]
    assert recorded["kind"].to_pylist() == ["outcome", "correct", "retract"]
    assert recorded["prediction"].to_pylist() == [0, 1, 0]


def test_unknown_predictions_are_rejected_and_the_rest_accepted(client: Any, service: Any, ids: list[str]) -> None:
    tag = ids[0].split("-")[0]
    names = ["nonsense", ids[2], f"{tag}-99", "aaaaaaaa-0"]
    answer = client("POST", "/outcome", json={"outcomes": [{"prediction_id": name, "label": 0} for name in names]})
    assert answer.status_code == 200
    found = answer.json()
    assert found["accepted"] == 1
    assert [(r["index"], r["prediction_id"]) for r in found["rejected"]] == [(k, names[k]) for k in (0, 2, 3)]
    assert all(r["reason"] for r in found["rejected"])
    assert service.outcomes_log.read(0)["prediction"].to_pylist() == [2]


def test_nothing_accepted_is_nothing_recorded(client: Any, service: Any) -> None:
    assert client("POST", "/outcome", json={"prediction_id": "x", "label": 0}).json()["accepted"] == 0
    assert client("POST", "/outcome", json={"outcomes": []}).json() == {"accepted": 0, "rejected": []}
    assert service.outcomes.end == 0


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"label": 1}, "prediction_id"),
    ({"prediction_id": 3, "label": 1}, "prediction_id"),
    ({"prediction_id": "x"}, "label"),
    ({"prediction_id": "x", "label": 0.5}, "label"),
    ({"prediction_id": "x", "label": -1}, "label"),
    ({"prediction_id": "x", "label": "yes"}, "label"),
    ({"prediction_id": "x", "label": 1, "kind": "retract"}, "label"),
    ({"prediction_id": "x", "label": 1, "kind": "undo"}, "kind"),
    ({"prediction_id": "x", "label": 1, "time": "soon"}, "time"),
    ({"prediction_id": "x", "label": 1, "time": 1e12}, "time"),
    ({"prediction_id": "x", "label": 1, "weight": 2}, "weight"),
]


@pytest.mark.parametrize(("bad", "field"), REFUSED)
def test_malformed_outcomes_are_refused_by_field_and_nothing_is_accepted(
    client: Any, service: Any, ids: list[str], bad: dict[str, Any], field: str
) -> None:
    status, error = client.refused("POST", "/outcome", json=bad)
    assert (status, error["field"]) == (422, field)
    good = {"prediction_id": ids[0], "label": 1}
    status, error = client.refused("POST", "/outcome", json={"outcomes": [good, bad]})
    assert status == 422
    assert error["field"].startswith("outcomes[1]")
    assert service.outcomes.end == 0


@pytest.mark.parametrize(("link", "good", "bad"), [("log", 3, -1), ("identity", -7.5, None)])
def test_labels_are_those_of_the_link(make: Any, client_of: Any, link: Any, good: Any, bad: Any) -> None:
    model = GLMix(Schema(label="y"), Fixed("x"), [Random("user")], link=link)
    model.partial_fit({"user": [1, 2], "x": [0.5, -1.0], "y": [3, 0]})
    client = client_of(make(model))
    name = client.predict({"user": 1})[0]["prediction_id"]
    assert client("POST", "/outcome", json={"prediction_id": name, "label": good}).json()["accepted"] == 1
    status, error = client.refused("POST", "/outcome", json={"prediction_id": name, "label": bad})
    assert (status, error["field"]) == (422, "label")


def test_arrow(client: Any, service: Any, ids: list[str]) -> None:
    given = pa.table(
        {"prediction_id": [ids[0], "x", ids[1]], "label": [1, 0, None], "kind": [None, "outcome", "retract"],
         "time": pa.array([5, None, 6], pa.timestamp("s"))}
    )  # fmt: skip
    answer = client("POST", "/outcome", content=stream(given), headers=ARROW)
    with pa.ipc.open_stream(answer.content) as reader:
        found = reader.read_all()
    assert found.schema.metadata == {b"accepted": b"2"}
    assert found["index"].to_pylist() == [1]
    recorded = service.outcomes_log.read(0)
    assert recorded["time"].to_pylist() == [5.0, 6.0]
    assert recorded["label"].to_pylist() == [1.0, None]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"weight": [1.0]}, "weight"),
        ({"prediction_id": pa.array([None], pa.string())}, "rows[0].prediction_id"),
        ({"kind": ["undo"]}, "rows[0].kind"),
        ({"label": ["yes"]}, "label"),
        ({"label": [7]}, "rows[0].label"),
    ],
)
def test_arrow_is_refused_by_column(client: Any, change: Any, field: str) -> None:
    body = stream(pa.table({"prediction_id": ["x"], "label": [1]} | change))
    status, error = client.refused("POST", "/outcome", content=body, headers=ARROW)
    assert (status, error["field"]) == (422, field)
    body = stream(pa.table({"prediction_id": ["x"]}))
    assert client.refused("POST", "/outcome", content=body, headers=ARROW)[1]["field"] == "label"


def test_outcomes_have_limits_too(make: Any, client_of: Any) -> None:
    client = client_of(make(limits=Limits(rows=2)))
    one = {"prediction_id": "x", "label": 1}
    assert client.refused("POST", "/outcome", json={"outcomes": [one] * 3})[1]["field"] == "outcomes"
