"""A small service made of the real parts: a model, logs on disk, their recorders; and a client of the app over it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest

from nearline import ConfigError, Fixed, GLMix, Multi, Numeric, Random, Schema, simulate
from nearline import config as configs
from nearline.cli import _fit
from nearline.cli._run import loop_of
from nearline.features import RowEncoder
from nearline.gate import Refused
from nearline.glmix import Scorer
from nearline.serve import App, Judged, Limits, Live, Published, Tokens, bound, server
from nearline.store import OUTCOMES, Log, Recorder, Runs, predictions_schema

SCHEMA = Schema(label="clicked", time="when", columns={"tags": Multi("|"), "price": Numeric(10.0, 5.0)})


def history(n: int = 400, seed: int = 0) -> dict[str, Any]:
    """A few hundred events of ten members and eight ads."""
    rng = np.random.default_rng(seed)
    return {
        "member": rng.integers(0, 10, n),
        "ad": [f"ad{i}" for i in rng.integers(0, 8, n)],
        "country": [("de", "fr", "jp", None)[i] for i in rng.integers(0, 4, n)],
        "price": rng.normal(10, 5, n),
        "tags": ["|".join(rng.choice(["new", "red", "big"], rng.integers(0, 3), replace=False)) for _ in range(n)],
        "clicked": rng.integers(0, 2, n),
        "when": np.arange(n, dtype=float),
    }


def trained(**options: Any) -> GLMix:
    """A model that has learned the history."""
    random = [Random("member", on=["price"]), Random("ad")]
    model = GLMix(SCHEMA, Fixed("country", "price", "tags"), random, **options)
    model.partial_fit(history())
    return model


class LocalService:
    """`nearline.serve.Service` of one process, without a learner."""

    def __init__(self, folder: Path, model: GLMix, limits: Limits | None = None, **recorder: Any) -> None:
        self.folder, self.limits = folder, limits or Limits()
        rows = RowEncoder(model.encoder)
        self.live = Live(Scorer(model, "1.0.0"), rows)
        schema = model.schema
        columns = {field.name: field.type for field in rows.arrow}
        seen = predictions_schema(columns, offset=schema.offset is not None, weight=schema.weight is not None)
        self.predictions_log = Log.open(folder / "predictions", seen)
        self.outcomes_log = Log.open(folder / "outcomes", OUTCOMES)
        self.runs = Runs(folder / "runs.jsonl")
        self.run = self.runs.start(predictions=self.predictions_log.end, started=time.time())
        self.predictions = Recorder(self.predictions_log, made={"prediction_id": self.run}, **recorder)
        self.outcomes = Recorder(self.outcomes_log, **recorder)
        self.unready: str | None = None
        self.seeds = 0
        self.worse = "1.2.0"
        self.known, self.history = ["1.0.0", "1.1.0", self.worse], [{"action": "publish", "version": "1.0.0"}]

    def now(self) -> float:
        return time.time()

    def seed(self) -> int:
        self.seeds += 1
        return self.seeds

    def ids(self, first: int, n: int) -> list[str]:
        return self.run.ids(first, n)

    def resolve(self, ids: Sequence[str]) -> tuple[Any, Mapping[int, str]]:
        return self.runs.resolve(ids, first=0, end=self.predictions_log.end)

    def status(self) -> dict[str, Any]:
        model = {"version": self.live.scorer.version, "learned": 400, "bytes": self.live.scorer.model.nbytes()}
        return {"time": self.now(), "model": model, "freshness": {"lag_s": 0.5, "waiting": 3}, "joins": {"learned": 7}}

    def versions(self) -> dict[str, Any]:
        return {"live": self.live.scorer.version, "versions": self.known, "history": self.history}

    def publish(
        self, version: str, why: str, who: str, force: bool = False, halted: Callable[[], bool] = lambda: False
    ) -> Published:
        if version not in self.known:
            raise ConfigError(f"there is no version {version!r}; there are {self.known}")
        if version == self.worse and not force:
            raise Refused(version, ["loss: much more"])
        self.live = Live(Scorer(self.live.scorer.model, version), self.live.rows)
        self.history.append({"action": "publish", "version": version, "why": why, "who": who})
        return Published(version, Judged("passed", [], {"loss": "less"}))

    def rollback(self, to: str | None, why: str, who: str) -> str:
        return self.publish(to or "1.0.0", why, who).version

    def close(self) -> None:
        for recorder, log in ((self.predictions, self.predictions_log), (self.outcomes, self.outcomes_log)):
            recorder.close()
            log.close()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., LocalService]]:
    """Makes services that are closed at the test's end."""
    made: list[LocalService] = []

    def making(model: GLMix | None = None, **options: Any) -> LocalService:
        made.append(LocalService(tmp_path / str(len(made)), model or trained(), **options))
        return made[-1]

    yield making
    for service in made:
        service.close()


@pytest.fixture
def service(make: Callable[..., LocalService]) -> LocalService:
    """A service as most tests need it."""
    return make()


class Client:
    """Asks the app one thing at a time, each in an event loop of its own."""

    def __init__(self, service: LocalService, **options: Any) -> None:
        self.app = App(service, **options)

    def __call__(self, method: str, path: str, **request: Any) -> httpx.Response:
        return self.all([(method, path, request)])[0]

    def all(self, requests: Sequence[tuple[str, str, dict[str, Any]]]) -> list[httpx.Response]:
        """Answers of requests that are made at the same time."""

        async def asking() -> list[httpx.Response]:
            transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=True)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await asyncio.gather(*(client.request(m, path, **options) for m, path, options in requests))

        return asyncio.run(asking())

    def predict(self, *rows: Any, **more: Any) -> list[dict[str, Any]]:
        """Predictions of rows that must be accepted."""
        answer = self("POST", "/predict", json={"rows": rows, **more})
        assert answer.status_code == 200, answer.text
        return answer.json()["predictions"]  # type: ignore[no-any-return]

    def refused(self, method: str, path: str, **request: Any) -> tuple[int, dict[str, Any]]:
        """Status and error of a request that must be refused."""
        answer = self(method, path, **request)
        assert answer.headers["content-type"] == "application/json"
        return answer.status_code, answer.json()["error"]


@pytest.fixture
def client_of() -> type[Client]:
    """Makes a client of a service's app."""
    return Client


@pytest.fixture
def client(service: LocalService) -> Client:
    """A client of the usual service."""
    return Client(service)


@pytest.fixture
def model_of() -> Callable[..., GLMix]:
    """Makes a model that has learned the history; options as of GLMix."""
    return trained


@pytest.fixture
def row() -> dict[str, Any]:
    """A row that the model can score."""
    return {"member": 1, "ad": "ad2", "country": "de", "price": 12.0, "tags": "new|red", "when": 500.0}


@pytest.fixture
def tokens() -> Tokens:
    """One token per role."""
    return Tokens.of({role: [f"a long {role} token"] for role in ("predict", "outcome", "admin")})


# -- a service that learns, behind a socket ---------------------------------------------------------------------------

TOKENS = {"predict": "a long predict token", "outcome": "a long outcome token", "admin": "a long admin token"}
MARKET = simulate.Marketplace(events=6_000, members=60, ads=20, campaigns=4, days=1.0, shocks=())
CONFIG = """
[data]
path = "history.parquet"
[schema]
label = "clicked"
time = "timestamp"
[fixed]
on = ["country", "device"]
[[random]]
key = "member_id"
on = ["category"]
[[random]]
key = "ad_id"
[fit]
learn_priors = false
[live]
folder = "state"
[join]
window = "1h"
"""
COLUMNS = ["member_id", "ad_id", "country", "device", "category"]


class Running:
    """The address of a service, a client with its tokens, and rows that nobody has seen yet."""

    def __init__(self, url: str, rows: list[dict[str, Any]], labels: list[int]) -> None:
        self.url, self.rows, self.labels, self.tokens = url, rows, labels, TOKENS

    def headers(self, path: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {TOKENS.get(path.split('/')[1], TOKENS['admin'])}"}

    def ask(self, path: str, body: Any) -> Any:
        """The answer to a request, whatever it is."""
        return httpx.post(f"{self.url}{path}", json=body, headers=self.headers(path), timeout=60).json()

    def post(self, path: str, body: Any) -> Any:
        """The answer to a request that must be accepted."""
        answer = self.ask(path, body)
        assert "error" not in answer, answer
        return answer

    def status(self) -> Any:
        return httpx.get(f"{self.url}/api/status", timeout=60).json()

    def learn(self, first: int, last: int) -> None:
        """Predict rows, say what happened, and wait until it was learned."""
        before = self.status()["joins"]["learned"]
        made = self.post("/predict", {"rows": self.rows[first:last]})["predictions"]
        outcomes = [{"prediction_id": p["prediction_id"], "label": y} for p, y in zip(made, self.labels[first:last])]
        assert self.post("/outcome", {"outcomes": outcomes}) == {"accepted": last - first, "rejected": []}
        until(lambda: self.status()["joins"]["learned"] >= before + last - first)


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.05)


@pytest.fixture
def write_history() -> Callable[[Path], None]:
    """Writes events to learn a first model from."""
    return lambda path: pq.write_table(simulate.stream(MARKET).slice(0, 2_000), path)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    table = simulate.stream(MARKET)
    pq.write_table(table.slice(0, 4_000), tmp_path / "history.parquet")
    (tmp_path / "nearline.toml").write_text(CONFIG)
    config = configs.load(tmp_path / "nearline.toml")
    _fit.make(config, "fit from history", True, True)
    listening = bound("127.0.0.1", 0)
    with loop_of(config.running()) as loop:
        app = App(loop, tokens=Tokens.of({role: [token] for role, token in TOKENS.items()}))
        serving = server(app)
        thread = threading.Thread(target=serving.run, kwargs={"sockets": [listening]})
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        until(lambda: serving.started)
        rest = table.slice(4_000)
        yield Running(url, rest.select(COLUMNS).to_pylist(), rest["clicked"].to_pylist())
        serving.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
    listening.close()
