"""POST /predict: what is answered is the model's, is recorded first, and bad requests are refused by field."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from nearline import Fixed, GLMix, Random, Schema
from nearline.serve import Limits
from nearline.store import Overloaded, Recorder
from nearline.store._packed import Packer

ARROW = {"Content-Type": "application/vnd.apache.arrow.stream"}


def stream(table: Any) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def table_of(body: bytes) -> Any:
    with pa.ipc.open_stream(body) as reader:
        return reader.read_all()


def columns_of(*rows: dict[str, Any]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def test_probabilities_are_the_models(client: Any, service: Any, row: Any) -> None:
    rows = [row, row | {"member": 99, "country": "never seen"}, {"member": 3, "ad": "ad1", "when": 600.0}]
    found = client.predict(*rows)
    filled = [{"country": None, "price": None, "tags": None, **row} for row in rows]
    expected = service.live.scorer.model.predict_proba(columns_of(*filled))
    assert [p["probability"] for p in found] == expected.tolist()
    assert {p["version"] for p in found} == {"1.0.0"}
    assert all(set(p) == {"prediction_id", "probability", "version"} for p in found)


def test_predictions_are_durable_before_they_leave(client: Any, service: Any, row: Any) -> None:
    before = service.now()
    found = client.predict(row, {"member": 3, "ad": "ad1"})
    recorded = service.predictions_log.read(0).to_pylist()  # reads durable rows only
    assert [r["prediction_id"] for r in recorded] == [p["prediction_id"] for p in found]
    assert recorded[0]["time"] == 500.0
    assert before <= recorded[1]["time"] <= service.now()
    assert [recorded[0][name] for name in ("member", "ad", "country", "price", "tags")] == [
        1,
        "ad2",
        "de",
        12.0,
        "new|red",
    ]
    assert recorded[1]["country"] is None
    assert [r["version"] for r in recorded] == ["1.0.0"] * 2
    margins = [np.log(p["probability"] / (1 - p["probability"])) for p in found]
    np.testing.assert_allclose([r["score"] for r in recorded], margins, rtol=1e-9)
    assert [r["propensity"] for r in recorded] == [None, None]


class Kept:
    """Keeps what is handed over to a recorder."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.parts, self.max_rows = recorder, list[Any](), recorder.max_rows

    def submit(self, n: int, columns: Any, done: Any) -> int:
        self.parts.append((n, columns))
        return self.recorder.submit(n, columns, done)


def test_what_usual_requests_hand_over_is_laid_out_without_arrow(client: Any, service: Any, row: Any) -> None:
    recorder, log = service.predictions, service.predictions_log
    service.predictions = kept = Kept(recorder)
    known = row | {"tags": "red"}
    client.predict(known, known)
    client.predict(known | {"member": 3, "ad": "ad1"})
    service.predictions = recorder
    packed = Packer(log.schema, {"prediction_id": service.run}).pack(0, kept.parts)
    assert packed is not None
    assert pa.Table.from_batches([packed.batch]).equals(log.read(0))


def test_requests_that_come_together_are_recorded_as_one_and_answered_apart(
    client: Any, service: Any, row: Any
) -> None:
    service.predictions = kept = Kept(recorder := service.predictions)
    known = row | {"tags": "red"}
    bodies: list[Any] = [
        {"rows": [known] * 2}, {"rows": [known | {"country": "never seen"}]}, {"rows": [known | {"price": "x"}]},
        {"rows": [known | {"member": 3}]}, {"rows": []}, {"rows": [known], "explain": True},
        {"rows": [known | {"time": service.now() + 1e9}]},
    ]  # fmt: skip
    answers = client.all([("POST", "/predict", {"json": body}) for body in bodies[:6]])
    service.predictions = recorder
    assert [answer.status_code for answer in answers] == [200, 200, 422, 200, 200, 200]
    assert [len(answer.json().get("predictions", ())) for answer in answers] == [2, 1, 0, 1, 0, 1]
    assert kept.parts[0][0] == 3
    alone = [client.all([("POST", "/predict", {"json": body})])[0].json() for body in bodies[:6]]
    for answer, own in zip(answers, alone):
        assert [p["probability"] for p in answer.json().get("predictions", ())] == [
            p["probability"] for p in own.get("predictions", ())
        ]
    mixed = client.all([("POST", "/predict", {"json": body}) for body in (bodies[0], bodies[6], bodies[3])])
    assert [answer.status_code for answer in mixed] == [200, 422, 200]
    ids = [p["prediction_id"] for a in [*answers, *mixed] for p in a.json().get("predictions", ())]
    assert len(set(ids)) == len(ids) == 8


def test_ids_count_on_over_requests(client: Any, row: Any) -> None:
    ids = [p["prediction_id"] for _ in range(3) for p in client.predict(row, row)]
    assert [int(name.split("-")[1]) for name in ids] == list(range(6))


def test_many_requests_at_once_get_their_own_rows(client: Any, service: Any, row: Any) -> None:
    requests = [("POST", "/predict", {"json": {"rows": [row | {"price": float(k)}] * (k % 3 + 1)}}) for k in range(60)]
    answers = client.all(requests)
    assert {answer.status_code for answer in answers} == {200}
    recorded = {r["prediction_id"]: r["price"] for r in service.predictions_log.read(0).to_pylist()}
    for k, answer in enumerate(answers):
        assert [recorded[p["prediction_id"]] for p in answer.json()["predictions"]] == [float(k)] * (k % 3 + 1)


def test_no_rows_are_no_predictions(client: Any, service: Any) -> None:
    assert client.predict() == []
    assert service.predictions.end == 0


def test_a_thompson_draw_comes_with_its_propensity_and_is_recorded(client: Any, service: Any, row: Any) -> None:
    rows = [row | {"ad": f"ad{k}"} for k in range(4)]
    found = client.predict(*rows, sample={"scale": 1.0, "seed": 7})
    again = client.predict(*rows, sample={"scale": 1.0, "seed": 7})
    strip = [{k: v for k, v in p.items() if k != "prediction_id"} for p in found]
    assert strip == [{k: v for k, v in p.items() if k != "prediction_id"} for p in again]
    assert sum(p["propensity"] for p in found) == pytest.approx(1.0)
    drawn = service.live.scorer.model.sample(columns_of(*rows), size=256, seed=7)[0]
    np.testing.assert_allclose([p["sampled_probability"] for p in found], 1 / (1 + np.exp(-drawn)), rtol=1e-12)
    recorded = service.predictions_log.read(0).to_pylist()[:4]
    assert [r["propensity"] for r in recorded] == [p["propensity"] for p in found]
    assert {r["seed"] for r in recorded} == {7}


def test_a_draw_without_a_seed_gets_a_new_recorded_one(client: Any, service: Any, row: Any) -> None:
    client.predict(row, row | {"ad": "ad1"}, sample=True)
    client.predict(row, sample={})
    assert [r["seed"] for r in service.predictions_log.read(0).to_pylist()] == [1, 1, 2]


def test_explanations_sum_to_the_score(client: Any, row: Any) -> None:
    found = client.predict(row, explain=True)[0]
    p = found["probability"]
    assert sum(term["contribution"] for term in found["explanation"]) == pytest.approx(np.log(p / (1 - p)))
    assert {term["effect"] for term in found["explanation"]} == {"fixed", "member", "ad"}


def test_other_links_predict_numbers(make: Any, client_of: Any) -> None:
    model = GLMix(Schema(label="y", offset="o", weight="w"), Fixed("x"), [Random("user")], link="log")
    model.partial_fit({"user": [1, 2], "x": [0.5, -1.0], "y": [3, 0], "o": [0.1, 0.2], "w": [1.0, 1.0]})
    service = make(model)
    client = client_of(service)
    found = client.predict({"user": 1, "x": 0.5, "o": 0.3, "w": 2.0})
    assert found[0]["prediction"] == model.predict({"user": [1], "x": [0.5], "o": [0.3]})[0]
    recorded = service.predictions_log.read(0).to_pylist()[0]
    assert (recorded["offset"], recorded["weight"]) == (0.3, 2.0)
    assert "sampled_prediction" in client.predict({"user": 1, "o": 0.0}, sample=True)[0]


def test_a_new_version_answers_from_the_next_request_on(client: Any, service: Any, row: Any) -> None:
    client.predict(row)
    service.publish("1.1.0", "better", "me")
    assert client.predict(row)[0]["version"] == "1.1.0"


# -- Arrow -----------------------------------------------------------------------------------------------------------


def test_arrow_in_arrow_out(client: Any, service: Any, row: Any) -> None:
    rows = [row, row | {"ad": "new", "tags": None}]
    answer = client("POST", "/predict", content=stream(pa.table(columns_of(*rows))), headers=ARROW)
    assert answer.headers["content-type"] == ARROW["Content-Type"]
    found = table_of(answer.content)
    assert found["probability"].to_pylist() == [p["probability"] for p in client.predict(*rows)]
    recorded = service.predictions_log.read(0)
    assert recorded["prediction_id"].to_pylist()[:2] == found["prediction_id"].to_pylist()
    for name in ("member", "ad", "country", "price", "tags", "time"):
        assert recorded[name].to_pylist()[:2] == recorded[name].to_pylist()[2:], name


def test_arrow_draws_by_query(client: Any, row: Any) -> None:
    body = stream(pa.table(columns_of(row, row | {"ad": "ad1"})))
    found = table_of(client("POST", "/predict?seed=7&scale=1", content=body, headers=ARROW).content)
    drawn = client.predict(row, row | {"ad": "ad1"}, sample={"seed": 7})
    assert found["propensity"].to_pylist() == [p["propensity"] for p in drawn]
    assert found["sampled_probability"].to_pylist() == [p["sampled_probability"] for p in drawn]
    status, error = client.refused("POST", "/predict?scale=x", content=body, headers=ARROW)
    assert (status, error["field"]) == (422, "scale")


def test_arrow_of_no_rows(client: Any, row: Any) -> None:
    answer = client("POST", "/predict", content=stream(pa.table(columns_of(row)).slice(0, 0)), headers=ARROW)
    assert table_of(answer.content).num_rows == 0


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"member": ["a"]}, 422, "member"),
        ({"price": [np.inf]}, 422, "rows[0].price"),
        ({"contry": ["de"]}, 422, "contry"),
        ({"ad": pa.array([None], pa.string())}, 422, "rows[0].ad"),
        ({"when": [1e12]}, 422, "rows[0].when"),
    ],
)
def test_arrow_columns_are_refused_by_name(client: Any, row: Any, change: Any, status: int, field: str) -> None:
    body = stream(pa.table(columns_of(row) | change))
    found, error = client.refused("POST", "/predict", content=body, headers=ARROW)
    assert (found, error["field"]) == (status, field)


def test_arrow_streams_that_are_none(client: Any, service: Any, row: Any) -> None:
    whole = stream(pa.table(columns_of(row)))
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["member", "member"])
    for body in (b"", b"{}", whole[: len(whole) // 2], whole[: len(whole) - 40], b"\xff" * 64):
        assert client.refused("POST", "/predict", content=body, headers=ARROW)[0] == 400, body
    assert client.refused("POST", "/predict", content=stream(twice), headers=ARROW)[1]["field"] == "member"
    assert service.predictions.end == 0


# -- refusals --------------------------------------------------------------------------------------------------------

JSON = {"Content-Type": "application/json"}
HOSTILE: list[tuple[Any, int, str | None]] = [
    ("", 400, None),
    ("{", 400, None),
    ("nonsense", 400, None),
    ('{"rows": [{"member": NaN}]}', 400, None),
    ('{"rows": [{"member": 1, "ad": "\ud800"}]}'.encode("utf-8", "surrogatepass"), 400, None),
    (b"\xff\xfe{}", 400, None),
    ('{"rows": ' + "[" * 100_000 + "]" * 100_000 + "}", 422, "rows[0]"),
    ("[" * 100_000, 422, None),
    ("null", 422, None),
    ("[]", 422, None),
    ("{}", 422, "rows"),
    ('{"rows": {}}', 422, "rows"),
    ('{"rows": [1]}', 422, "rows[0]"),
    ('{"rows": [], "smaple": true}', 422, "smaple"),
    ('{"rows": [], "sample": 3}', 422, "sample"),
    ('{"rows": [], "sample": {"scale": -1}}', 422, "sample.scale"),
    ('{"rows": [], "explain": "yes"}', 422, "explain"),
    ('{"rows": [{"ad": "a"}]}', 422, "rows[0]"),
    ('{"rows": [{"member": 1, "ad": "a", "price": "cheap"}]}', 422, "rows[0].price"),
    ('{"rows": [{"member": 1, "ad": "a", "price": 1e400}]}', 422, "rows[0].price"),
    ('{"rows": [{"member": 1, "ad": "a", "price": 1e308}]}', 200, None),
    ('{"rows": [{"member": 1' + "0" * 5000 + ', "ad": "a"}]}', 422, "rows[0].member"),
    ('{"rows": [{"member": 99999999999999999999, "ad": "a"}]}', 422, "rows[0].member"),
    ('{"rows": [{"member": 1.5, "ad": "a"}]}', 422, "rows[0].member"),
    ('{"rows": [{"member": true, "ad": "a"}]}', 422, "rows[0].member"),
    ('{"rows": [{"member": 1, "ad": "a", "when": 1e15}]}', 422, "rows[0].when"),
    ('{"rows": [{"member": 1, "ad": "a", "when": "soon"}]}', 422, "rows[0].when"),
    ('{"rows": [{"member": 1, "ad": "a", "nested": {"x": 1}}]}', 422, "rows[0]"),
]


@pytest.mark.parametrize(("body", "status", "field"), HOSTILE, ids=range(len(HOSTILE)))
def test_bodies_are_refused_by_field(
    client: Any, service: Any, row: Any, body: Any, status: int, field: str | None
) -> None:
    answer = client("POST", "/predict", content=body, headers=JSON)
    assert answer.status_code == status, answer.text
    if status != 200:
        error = answer.json()["error"]
        assert (error["type"], error["field"]) == ("malformed" if status == 400 else "invalid", field)
        assert error["message"]
        assert service.predictions.end == 0
    assert client.predict(row)  # and the next request is none the worse


def test_dates_are_times_too(client: Any, service: Any, row: Any) -> None:
    client.predict(row | {"when": "2001-09-09T01:46:40Z"})
    assert service.predictions_log.read(0)["time"].to_pylist() == [1e9]
    assert datetime.fromtimestamp(1e9, UTC).year == 2001


@pytest.mark.parametrize("media", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
def test_other_media_types_are_refused(client: Any, media: str) -> None:
    status, error = client.refused("POST", "/predict", content="{}", headers={"Content-Type": media})
    assert (status, error["type"]) == (415, "unsupported_media_type")


def test_a_media_type_may_have_parameters(client: Any, row: Any) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert client("POST", "/predict", json={"rows": [row]}, headers=headers).status_code == 200


def test_bodies_and_rows_have_limits(make: Any, client_of: Any, row: Any) -> None:
    service = make(limits=Limits(body_bytes=1000, rows=3, explained_rows=1, draws=4))
    client = client_of(service)
    status, error = client.refused("POST", "/predict", content="x" * 1001, headers=JSON)
    assert (status, error["type"]) == (413, "too_large")

    async def parts() -> Any:
        for _ in range(20):
            yield b"x" * 100

    assert client.refused("POST", "/predict", content=parts(), headers=JSON)[0] == 413
    short = {"member": 1, "ad": "a"}
    assert client.refused("POST", "/predict", json={"rows": [short] * 4})[1]["field"] == "rows"
    assert client.refused("POST", "/predict", json={"rows": [short] * 2, "explain": True})[1]["field"] == "explain"
    too_many = {"rows": [short], "sample": {"draws": 5}}
    assert client.refused("POST", "/predict", json=too_many)[1]["field"] == "sample.draws"
    body = stream(pa.table(columns_of(*[short] * 4)))
    assert client_of(make(limits=Limits(rows=3))).refused("POST", "/predict", content=body, headers=ARROW)[0] == 422
    assert service.predictions.end == 0


def test_ten_megabytes_are_refused_by_default(client: Any) -> None:
    body = b'{"rows": ["' + b"x" * 10_000_000 + b'"]}'
    assert client.refused("POST", "/predict", content=body, headers=JSON)[0] == 413


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_other_methods_are_refused(client: Any, method: str) -> None:
    for path in ("/predict", "/outcome"):
        answer = client(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        assert method == "HEAD" or answer.json()["error"]["type"] == "method_not_allowed"


def test_too_much_to_write_is_429(make: Any, client_of: Any, row: Any) -> None:
    service = make(max_rows=2)
    client = client_of(service)
    requests = [("POST", "/predict", {"json": {"rows": [row] * 2}}) for _ in range(40)]
    answers = client.all(requests)
    statuses = {answer.status_code for answer in answers}
    refused = [answer for answer in answers if answer.status_code == 429]
    assert statuses == {200, 429}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert refused[0].json()["error"]["type"] == "overloaded"
    assert service.predictions_log.end == 2 * (len(answers) - len(refused))  # nothing of what was refused is there
    assert Overloaded(1, 1, 0.5).retry_after == 0.5


def test_too_many_open_requests_are_429(make: Any, client_of: Any, row: Any) -> None:
    client = client_of(make(limits=Limits(open_requests=3)))
    answers = client.all([("POST", "/predict", {"json": {"rows": [row]}})] * 30)
    assert {answer.status_code for answer in answers} == {200, 429}
    assert client.app.metrics.open_requests == 0


def test_an_unready_service_is_503(client: Any, service: Any, row: Any) -> None:
    service.unready = "the model is being read"
    status, error = client.refused("POST", "/predict", json={"rows": [row]})
    assert (status, error["message"]) == (503, "the model is being read")
    assert client("GET", "/readyz").status_code == 503
    assert client("GET", "/healthz").status_code == 200


def test_a_disk_that_refuses_is_503_and_nothing_is_answered(client: Any, service: Any, row: Any) -> None:
    service.predictions.close()
    status, error = client.refused("POST", "/predict", json={"rows": [row]})
    assert (status, error["type"]) == (503, "unavailable")


@pytest.mark.parametrize("usual", [True, False])
def test_an_answer_names_the_version_that_scored_it(
    client: Any, service: Any, row: Any, usual: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = service.predictions.submit

    def learning_meanwhile(n: int, columns: Any, done: Any) -> int:
        service.live.scorer.version = "1.0.1"
        return submit(n, columns, done)

    monkeypatch.setattr(service.predictions, "submit", learning_meanwhile)
    found = client.predict(row, **({} if usual else {"explain": True}))
    assert [p["version"] for p in found] == ["1.0.0"]
    assert service.predictions_log.read(0)["version"].to_pylist() == ["1.0.0"]
    assert client.predict(row)[0]["version"] == "1.0.1"
