"""Training on chosen rows: choosing costs no forward pass, loads nothing, repeats from its log, and is worth it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nearline import DataError, Schema, StateError, Vector
from nearline.select import Policy, SelectorState, by_name, kappa, replay

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'nearline[deep]'")

from nearline.deep import MLP, Network, Optimiser, Retrained, Window, retrain  # noqa: E402

SCHEMA = Schema(label="y", columns={"x": Vector()})
D = 30


class Clicks:
    """The drifting click stream of the specification (T3), smaller: weights drift, one row in nine clicks."""

    def __init__(self, seed: int, rows: int = 500) -> None:
        self.rng, self.rows = np.random.default_rng(seed), rows
        self.weights = self.rng.normal(0, 0.35, D)

    def window(self) -> tuple[dict[str, Any], Any]:
        """A table, and the true log-odds of its rows."""
        self.weights = self.weights + self.rng.normal(0, 0.003, D)
        x = self.rng.normal(size=(self.rows, D))
        eta = x @ self.weights - 3.2
        y = (self.rng.random(self.rows) < 1 / (1 + np.exp(-eta))).astype(float)
        return {"x": x.tolist(), "y": y}, eta


def linear(rate: float = 0.5, batch: int = 50) -> Network:
    net = Network(SCHEMA, ["x"], architecture=MLP(()), optimiser=Optimiser("sgd", rate, batch_size=batch), seed=1)
    net.design(Clicks(0).window()[0], learn=True)
    return net


def part(table: dict[str, Any], index: Any) -> dict[str, Any]:
    return {"x": [table["x"][i] for i in index], "y": table["y"][index]}


def window_of(net: Network, table: dict[str, Any], asked: list[int] | None = None) -> Window:
    def load(index: Any) -> dict[str, Any]:
        if asked is not None:
            asked.extend(index.tolist())
        return part(table, index)

    return Window(net.information(table).scores(table["y"]), load)


@pytest.fixture
def served() -> tuple[Network, list[dict[str, Any]]]:
    stream = Clicks(3)
    return linear(), [stream.window()[0] for _ in range(4)]


def test_only_the_chosen_rows_are_loaded_and_go_forward(served: tuple[Network, list[dict[str, Any]]]) -> None:
    net, tables = served
    asked: list[int] = []
    windows = [window_of(net, table, asked) for table in tables]
    seen = []
    net.module.register_forward_hook(lambda module, given, out: seen.append(len(out[0])))
    done = retrain(net, windows, by_name("pps"), 0.1)
    assert [row["b"] for row in done.log] == [50] * 4
    assert len(asked) == sum(seen) == done.network.passes.forwards == done.network.passes.backwards == 200
    assert asked == [i for row in done.log for i in row["index"]]


def test_the_network_given_stays_as_it_is_and_the_same_seed_trains_the_same(
    served: tuple[Network, list[dict[str, Any]]],
) -> None:
    net, tables = served
    before = net.decision_function(tables[0])
    runs = [retrain(net, [window_of(net, t) for t in tables], by_name("pps"), 0.1, seed=s) for s in (5, 5, 6)]
    scores = [run.network.decision_function(tables[0]) for run in runs]
    assert np.array_equal(net.decision_function(tables[0]), before)
    assert np.array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])
    assert runs[0].state == runs[1].state


def test_windows_one_by_one_are_windows_in_one_call(served: tuple[Network, list[dict[str, Any]]]) -> None:
    net, tables = served
    windows = [window_of(net, table) for table in tables]
    whole = retrain(net, windows, by_name("pps"), 0.1, seed=2)
    step, state = net, SelectorState()
    for number, window in enumerate(windows):
        done = retrain(step, [window], by_name("pps"), 0.1, seed=2, first=number, state=state)
        step, state = done.network, done.state
    assert np.array_equal(step.decision_function(tables[0]), whole.network.decision_function(tables[0]))
    assert state == whole.state


def test_every_choice_is_made_again_from_the_log(served: tuple[Network, list[dict[str, Any]]]) -> None:
    net, tables = served
    windows = [window_of(net, table) for table in tables]
    done = retrain(net, windows, Policy(by_name("pps"), task="binary"), 40, seed=9)
    for row, window in zip(done.log_table().to_pylist(), windows):
        assert np.isfinite(row["loss"])
        assert len(replay(row, window.scores)) == 40
    assert json.loads(done.log[0]["settings"])["rule"]["rule"] == "pps"


def test_weights_of_the_selection_enter_the_loss(served: tuple[Network, list[dict[str, Any]]]) -> None:
    net, tables = served
    window = window_of(net, tables[0])
    done = retrain(net, [window], by_name("pps"), 0.1)
    row, by_hand = done.log[0], net.fork()
    by_hand.partial_fit(part(tables[0], np.array(row["index"])), weight=row["weight"])
    assert np.array_equal(by_hand.decision_function(tables[1]), done.network.decision_function(tables[1]))


def test_the_selector_learns_whether_records_are_worth_trusting() -> None:
    # Specification, section 12: the uniform share tends to its least on fresh scores and to 1 on shuffled ones.
    def run(record: Callable[[Network, dict[str, Any]], Window]) -> Retrained:
        net, state, stream = linear(), SelectorState(), Clicks(7)
        for number in range(25):
            done = retrain(net, [record(net, stream.window()[0])], by_name("pps"), 0.2, first=number, state=state)
            net, state = done.network, done.state
        return done

    def shuffled(net: Network, table: dict[str, Any]) -> Window:
        fresh = window_of(net, table)
        order = np.random.default_rng(0).permutation(len(fresh.scores))
        return Window(fresh.scores.take(order), fresh.load)

    fresh, worthless = run(window_of), run(shuffled)
    assert kappa(fresh.state) > 0.8
    assert kappa(worthless.state) < 0.3
    assert worthless.log[-1]["uniform_share"] > 0.7 > fresh.log[-1]["uniform_share"]


def test_weighted_choices_lose_less_than_uniform_ones_at_the_same_cost() -> None:
    # Specification, T3 in small: excess log loss over the Bayes rate, scored before training. Both start at the truth,
    # so that what is measured is the noise of their steps.
    excess = {}
    for rule in ("uniform", "pps"):
        found = []
        for seed in (1, 2):
            net, state, stream = linear(), SelectorState(), Clicks(seed)
            with torch.no_grad():
                net.module.head.weight[0, :D] = torch.from_numpy(stream.weights)
                net.module.head.bias.fill_(-3.2)
            for number in range(80):
                table, eta = stream.window()
                recorded = net.information(table)
                truth = 1 / (1 + np.exp(-eta))
                if number >= 40:
                    cross = np.logaddexp(0, recorded.logit) - truth * recorded.logit
                    found.append(np.mean(cross - np.logaddexp(0, eta) + truth * eta))
                window = Window(recorded.scores(table["y"]), lambda index, table=table: part(table, index))
                done = retrain(net, [window], by_name(rule), 0.1, first=number, state=state)
                net, state = done.network, done.state
        excess[rule] = np.mean(found)
    assert excess["pps"] < 0.5 * excess["uniform"]


def test_a_budget_of_nothing_trains_nothing(served: tuple[Network, list[dict[str, Any]]]) -> None:
    net, tables = served
    done = retrain(net, [window_of(net, tables[0])], by_name("pps"), 0)
    assert done.network.passes.cost == 0
    assert np.isnan(done.log[0]["loss"])


def test_rows_that_were_not_loaded_are_missed(served: tuple[Network, list[dict[str, Any]]]) -> None:
    net, tables = served
    scores = net.information(tables[0]).scores(tables[0]["y"])
    with pytest.raises(DataError, match="load gave 49 rows for 50"):
        retrain(net, [Window(scores, lambda index: part(tables[0], index[1:]))], by_name("pps"), 0.1)


def test_a_sketch_comes_with_the_scores_for_balanced_choices(served: tuple[Network, list[dict[str, Any]]]) -> None:
    net, tables = served
    scores = net.information(tables[0], sketch=8).scores(tables[0]["y"], age=np.zeros(500))
    assert scores.sketch.shape == (500, 8)
    balanced = by_name("pps", sampler="cube", balance=("sketch",))
    done = retrain(net, [Window(scores, lambda index: part(tables[0], index))], balanced, 0.1)
    assert done.log[0]["b"] == 50


def test_leverage_is_that_of_the_network_as_the_window_comes_and_the_log_keeps_it() -> None:
    rng = np.random.default_rng(5)
    net = Network(Schema(label="y"), ["ad"], architecture=MLP(()), optimiser=Optimiser("sgd", 0.1), seed=1)
    tables = [{"ad": rng.geometric(0.4, 200).astype(str), "y": rng.integers(0, 2, 200)} for _ in range(3)]
    net.partial_fit(tables.pop())
    priced = [net.information(table).scores(table["y"]) for table in tables]
    windows = [
        Window(scores, lambda k, t=table: {name: t[name][k] for name in t}, {"ad": table["ad"]})
        for scores, table in zip(priced, tables)
    ]
    rule = by_name("pps", leverage=True, floor=0.1, trust="cells")
    first, both = retrain(net, windows[:1], rule, 0.2), retrain(net, windows, rule, 0.2)
    held = [one.leverage(table, ["ad"]).tolist() for one, table in zip((net, first.network), tables)]
    assert [row["leverage"] for row in both.log] == held
    assert held[1] != net.leverage(tables[1], ["ad"]).tolist()
    for row, scores in zip(both.log_table().to_pylist(), priced):
        assert replay(row, scores).index.tolist() == row["index"]
        with pytest.raises(StateError, match="not the scores"):
            replay(row, replace(scores, leverage=np.ones(200)))
    assert retrain(net, windows[:1], by_name("pps"), 0.2).log[0]["leverage"] is None
