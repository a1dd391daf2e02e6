"""A server process for `serving.py`: the app over real parts (model, ledger on disk), or the same without some of them.

    python benchmarks/_serving_child.py MODE MODEL_FOLDER STATE_FOLDER

MODE is `full`; `unrecorded` (scores, writes nothing); or `empty` (decodes the rows and encodes a ready answer of the
same form and length: what the stack alone costs). It prints the port once it listens.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from nearline import GLMix
from nearline.features import RowEncoder
from nearline.glmix import Scorer
from nearline.serve import App, Limits, Live, bound, server
from nearline.serve._asgi import JSON, Answer
from nearline.serve._messages import Predictions, Probability
from nearline.store import OUTCOMES, Log, Recorder, Runs, predictions_schema


class Parts:
    """A service without a learner."""

    def __init__(self, model: GLMix, folder: Path, mode: str) -> None:
        rows = RowEncoder(model.encoder)
        self.live, self.limits, self.unready = Live(Scorer(model, "1.0.0"), rows), Limits(), None
        self.log = Log.open(folder / "predictions", predictions_schema({f.name: f.type for f in rows.arrow}))
        self.run = Runs(folder / "runs.jsonl").start(predictions=self.log.end, started=time.time())
        made = {"prediction_id": self.run}
        self.predictions: Any = Recorder(self.log, made=made) if mode != "unrecorded" else Nowhere()
        self.outcomes = Recorder(Log.open(folder / "outcomes", OUTCOMES))

    def now(self) -> float:
        return time.time()

    def seed(self) -> int:
        return 0

    def ids(self, first: int, n: int) -> list[str]:
        return self.run.ids(first, n)

    def resolve(self, ids: Sequence[str]) -> tuple[Any, Mapping[int, str]]:
        return np.full(len(ids), -1), dict.fromkeys(range(len(ids)), "not here")

    def status(self) -> dict[str, Any]:
        return {}


class Nowhere:
    """Records nothing, at once."""

    def __init__(self) -> None:
        self.end = self.waiting = 0
        self.max_rows = 100_000

    def submit(self, n: int, columns: Any, done: Any) -> int:
        self.end += n
        done(None)
        return self.end - n


class Empty:
    """A route that parses the rows and answers with as many ready ones."""

    def __init__(self, parts: Parts) -> None:
        from nearline.serve._messages import predict_request

        self._decode = msgspec.json.Decoder(predict_request(parts.live.rows.Row, parts.limits.rows)).decode
        self._ready = [Probability(f"abcdefgh-{n}", 0.123456789 + n / 1e6, "1.0.0") for n in range(10_000)]
        self._encode = msgspec.json.Encoder().encode

    async def __call__(self, body: bytes, media: str, query: bytes, waiter: Any) -> Answer:
        n = len(self._decode(body).rows)
        return Answer(self._encode(Predictions(self._ready[:n])), JSON, n)


def main() -> None:
    pa.set_memory_pool(pa.system_memory_pool())  # as `nearline run` does
    mode, model, state = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    parts = Parts(GLMix.load(model), state, mode)
    app = App(parts)
    if mode == "empty":
        app._hot["/predict"] = ("predict", "rows", Empty(parts))
    listening = bound("127.0.0.1", 0)
    print(listening.getsockname()[1], flush=True)
    server(app).run(sockets=[listening])
    parts.predictions.close() if mode == "full" else None


if __name__ == "__main__":
    main()
