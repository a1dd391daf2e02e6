"""Whatever a schema has, a tick is `partial_fit` of the rows as they were predicted; links and modes alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.loop.parts import CALM, Bench, same_model, standing

from nearline import Fixed, GLMix, Hashed, Loadings, Multi, Numeric, Random, Schema, Vector
from nearline.schema import key_columns

N = 30
RNG = np.random.default_rng(5)


def columns(n: int = N) -> dict[str, Any]:
    return {
        "user": RNG.integers(0, 5, n).tolist(), "ad": [f"ad{i}" for i in RNG.integers(0, 4, n)],
        "tags": ["|".join(RNG.choice(["a", "b", "c"], RNG.integers(0, 3), replace=False)) for _ in range(n)],
        "page": [f"/p/{i}" for i in RNG.integers(0, 1_000, n)], "vec": RNG.normal(size=(n, 3)).tolist(),
        "price": [None if i == 0 else float(i) for i in RNG.integers(0, 9, n)],
        "w": RNG.choice([0.5, 2.0], n).tolist(), "o": RNG.normal(size=n).tolist(),
    }  # fmt: skip


ALL = Schema(
    label="y", time="t", weight="w", offset="o", id="event",
    columns={"tags": Multi("|"), "page": Hashed(6), "vec": Vector(), "price": Numeric(4.0, 2.0)},
)  # fmt: skip
SCHEMAS: dict[str, GLMix] = {
    "everything": GLMix(ALL, Fixed("tags", "page", "vec", "price"), [Random("user", on=["price"]), Random("ad")]),
    "no time": GLMix(Schema(label="y"), Fixed("tags"), [Random("user")]),
    "a composite key": GLMix(Schema(label="y", time="t"), Fixed(), [Random(("user", "ad")), Random("ad")]),
    "a parent": GLMix(Schema(label="y", time="t"), Fixed(), [Random("user", parent="ad")]),
    "identity": GLMix(ALL, Fixed("vec"), [Random("user", on=["price"])], link="identity", dispersion=2.0),
    "log": GLMix(ALL, Fixed("vec"), [Random("user", on=["price"])], link="log"),
    "float32": GLMix(ALL, Fixed("vec"), [Random("user", on=["price"])], dtype="float32"),
    "minibatch": GLMix(ALL, Fixed("vec"), [Random("user", on=["price"])], mode="minibatch"),
    "loadings": GLMix(Schema(label="y", time="t"), Fixed(), [Random("user", on=["ad"]), Loadings("ad", of="user")]),
}


def labels(model: GLMix) -> list[float]:
    choices = {"logit": [0.0, 1.0], "identity": [-1.5, 0.25, 2.0], "log": [0.0, 1.0, 4.0]}[model.link]
    return [float(label) for label in RNG.choice(choices, N)]


def seen_by(model: GLMix, given: dict[str, Any]) -> dict[str, Any]:
    """The columns that a prediction of the model records."""
    schema, encoder = model.schema, model.encoder
    return {
        n: given[n] for n in given if n in {*encoder.features, *key_columns(encoder.keys), schema.weight, schema.offset}
    }


def table(model: GLMix, seen: dict[str, Any], y: list[float], time: float) -> dict[str, Any]:
    """Columns as `partial_fit` takes them."""
    schema = model.schema
    found = {**seen, "y": y} | ({} if schema.time is None else {"t": [time] * len(y)})
    return found | ({} if schema.id is None else {"event": [f"p-{i}" for i in range(len(y))]})


def base_of(name: str) -> GLMix:
    """A model that has learned a few events: keys without a value have no type yet."""
    model = SCHEMAS[name].replica()
    model.partial_fit(table(model, seen_by(model, columns()), labels(model), 900.0))
    return model


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_tick_is_partial_fit(name: str) -> None:
    base = base_of(name)
    seen, y = seen_by(base, columns()), labels(base)
    bench, twin = Bench(base), base.replica()
    positions = bench.predict(seen)
    bench.happened(positions, y)
    bench.tick()
    known = table(base, seen, y, 1_000.0)
    twin.partial_fit(known)
    learned = base.replica().try_learn(known, CALM).events  # the same update, with what a correction needs
    assert bench.examples("action") == ["learn"] * N
    assert same_model(bench.model, twin)
    before, model = standing(bench.learner), bench.model
    bench.crash()
    assert standing(bench.learner) == before
    assert same_model(bench.model, model)
    label = next(value for value in (1.0, 0.0) if value != y[3])
    bench.happened(positions[3:4], label, kind="correct")
    bench.happened(positions[5:6], None, kind="retract")
    bench.tick()
    assert bench.examples("action")[-2:] == ["correct", "retract"]
    one, two = ({field: column[i : i + 1] for field, column in known.items()} for i in (3, 5))
    twin.correct(one, [label], learned.take(np.array([3])))
    twin.retract(two, learned.take(np.array([5])))
    assert same_model(bench.model, twin)
    assert bench.held() == {i: held for i, held in {**dict(enumerate(y)), 3: label}.items() if i != 5}
    found = bench.storage.examples.read(0, N)
    assert found.column("weight").to_pylist() == seen.get("w", [1.0] * N)
    assert np.isfinite(found.column("loss").to_numpy()).all()


def test_the_loss_is_that_of_the_recorded_score() -> None:
    base = base_of("no time")
    bench = Bench(base)
    bench.happened(bench.predict(seen_by(base, columns(3))), [1.0, 0.0, 1.0])
    bench.tick()
    for score, label, loss in bench.examples("score", "label", "loss"):
        assert loss == pytest.approx(np.log1p(np.exp(-score if label else score)))
