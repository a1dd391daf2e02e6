"""The space of a search: what history taught is in it, and settings say what they change."""

from __future__ import annotations

import math

from nearline import Fixed, Forgetting, GLMix, Loadings, Numeric, Random, Schema
from nearline.glmix import Adjustment
from nearline.tune import Axis, Space
from nearline.tune._space import space_of

SCHEMA = Schema(label="y", time="t", columns={"a": Numeric(0, 1)})


def space(span: float = 1e6, forgetting: Forgetting | None = None) -> Space:
    random = [Random("user", on=["a"], forgetting=forgetting), Loadings("ad", of="user")]
    model = GLMix(SCHEMA, Fixed("a"), random)
    model.design({"user": [1], "ad": [1], "a": [0.0], "y": [1], "t": [0.0]}, learn=True)
    return space_of(model.blocks, span, ("full", "diagonal"), (1, "1h"))


def names(found: Space) -> set[str]:
    return {axis.name for axis in found.axes}


def test_every_effect_has_its_settings() -> None:
    noise = {"user: half_life", "user: walk_per_event of (intercept)", "user: walk_per_day of (intercept)"}
    variances = {f"{name}: variance of {group}" for name in ("fixed", "user") for group in ("(intercept)", "*")}
    fixed = {"fixed: half_life", "fixed: walk_per_day of (intercept)", "fixed: walk_per_day of *"}
    assert names(space()) == {*noise, *variances, *fixed, "ad*user: variance", "structure", "every"}
    assert not {name for name in names(space(span=0.0)) if "half_life" in name or "day" in name}
    assert "user: half_life" not in names(space(forgetting=Forgetting(form="per_update", delta=0.9)))


def test_what_was_learned_is_a_value_of_its_axis_and_changes_nothing() -> None:
    found = space(forgetting=Forgetting(half_life=123.0, walk_per_event={"(intercept)": 0.0123}))
    assert found.defaults()["user: half_life"] == 123.0
    assert found.defaults()["user: walk_per_event of (intercept)"] == 0.0123
    assert all(axis.default in axis.values for axis in found.axes)
    assert found.changes(found.defaults()) == {}


def test_settings_become_changes_by_effect() -> None:
    found = space()
    settings = {**found.defaults(), "user: variance of *": 4.0, "fixed: half_life": 86_400.0, "structure": "diagonal"}
    assert found.changes(settings) == {
        "user": Adjustment(variance={"*": 4.0}),
        "fixed": Adjustment(half_life=86_400.0),
    }
    both = {**settings, "user: variance of (intercept)": 0.5}
    assert found.changes(both)["user"].variance == {"(intercept)": 0.5, "*": 4.0}


def test_values_are_in_order_and_earlier_ones_join() -> None:
    found = space()
    assert all(list(axis.values) == sorted(axis.values, key=float) for axis in found.axes if axis.ordered)
    wider = found.including([{**found.defaults(), "user: half_life": 4_321.0}])
    half_life = next(axis for axis in wider.axes if axis.name == "user: half_life")
    assert 4_321.0 in half_life.values
    assert half_life.values[-1] == math.inf
    assert list(half_life.values) == sorted(half_life.values)
    assert wider.digest() == found.digest() != space(span=0.0).digest()
    assert Axis("every", (1, "1h"), 1, ordered=False).including("2h").values == (1, "1h")
