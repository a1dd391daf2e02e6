"""Networks: what they read, and that training is what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.deep.parts import QUICK, READY, SCHEMA, fitted, network, same, table, torch, weights

from nearline import Numeric, Schema
from nearline.deep import MLP, Network, Optimiser, custom


def part(of: dict[str, Any], start: int, stop: int) -> dict[str, Any]:
    return {name: values[start:stop] for name, values in of.items()}


def test_one_step_is_the_gradient_of_the_weighted_mean() -> None:
    # Weights enter as the mean of ω_i ℓ_i over the mini-batch (specification, section 4.2).
    rows, omega = table(64), np.random.default_rng(0).exponential(size=64)
    plain = Optimiser("sgd", learning_rate=0.5, embedding_rate=0.5, batch_size=64)
    net = network(MLP((), embedding=2), optimiser=plain, dtype="float64")
    design, _ = net.design(rows, learn=True)
    before, p = weights(net), net.predict_proba(design)
    net.partial_fit(design, weight=omega)
    bags = net._bags(design)
    x = bags.dense.numpy()
    gradient = (omega * (p - design.label)) @ x / 64
    moved = before["head.weight"][0, : x.shape[1]] - weights(net)["head.weight"][0, : x.shape[1]]
    assert moved == pytest.approx(0.5 * gradient, abs=1e-12)


def test_a_table_row_moves_only_when_its_value_is_there() -> None:
    net = network()
    net.fit(table(300), epochs=1)
    before = weights(net)["table.weight"]
    rows = {**table(64, seed=2), "ad": ["a1"] * 64, "tags": ["t1"] * 64, "text": ["w1"] * 64}
    net.partial_fit(rows)
    moved = np.flatnonzero((weights(net)["table.weight"] != before).any(axis=1))
    assert {net.encoder.slot_columns[slot] for slot in moved} == {"ad", "tags", "text"}
    assert len(moved) == 3


def test_how_a_stream_is_cut_shows_neither_in_new_rows_nor_in_weights() -> None:
    whole, cut, rows = network(), network(), table(256, ads=80)
    for net in (whole, cut):
        net.design(part(rows, 0, 128), learn=True)  # the encoder standardises by the first table
    whole.partial_fit(rows)
    for start in (0, 64, 128, 192):
        cut.partial_fit(part(rows, start, start + 64))
    assert same(weights(whole), weights(cut))


def test_a_custom_network_reads_entity_codes() -> None:
    class Biases(torch.nn.Module):
        def __init__(self, shape: Any) -> None:
            super().__init__()
            assert shape.keys == ("ad",)
            self.bias = torch.nn.Embedding(100, 1)

        def forward(self, inputs: Any) -> torch.Tensor:
            known = (inputs.entities["ad"] >= 0).float()
            return known * self.bias(inputs.entities["ad"].clamp(min=0)).squeeze(1)

    net = Network(SCHEMA, [], keys=["ad"], architecture=custom(Biases), optimiser=QUICK)
    rows = table(400)
    net.fit(rows, epochs=1)
    scores = net.decision_function({"ad": ["a0", "a1", "never"], "o": [0.0] * 3})
    bias = net.module.body.bias.weight.detach().numpy()[:, 0]
    assert scores == pytest.approx([*(bias[net.encoder.entity_codes("ad")[a]] for a in ("a0", "a1")), 0.0])


def test_an_unknown_value_contributes_nothing() -> None:
    net = fitted(network(MLP((), embedding=4)))
    rows = {**table(2), "ad": ["never", "seen"], "tags": ["", ""], "text": ["w1", "w1"]}
    with_table = net.decision_function(rows)
    net.encoder.encode(rows, grow=True)  # the vocabulary is ahead of the network now
    assert np.array_equal(net.decision_function(rows), with_table)


def test_offsets_enter_the_score_and_the_loss() -> None:
    net = fitted(network())
    rows = table(20)
    moved = {**rows, "o": np.full(20, 2.0)}
    assert net.decision_function(moved) == pytest.approx(net.decision_function(rows) + 2.0, abs=1e-6)
    other = fitted(network())
    net.partial_fit(moved)
    other.partial_fit(rows)
    assert not same(weights(net), weights(other))


def test_rows_forward_and_backward_are_counted() -> None:
    net = network()
    net.fit(table(100), epochs=2)
    net.partial_fit(table(50))
    net.information(table(30), sketch=4)
    net.predict_proba(table(20))
    assert (net.passes.forwards, net.passes.backwards, net.passes.cost) == (300, 250, 800)


def test_what_training_returns_is_fresh_and_in_the_order_of_the_rows() -> None:
    net, rows = fitted(network()), table(64)
    before = net.information(rows)
    trained = net.partial_fit(rows)  # one mini-batch: its forward is that of before
    assert np.allclose(trained.margin, before.logit, atol=1e-6)
    assert np.allclose(trained.norm, before.norm, rtol=1e-6)
    slow = network(optimiser=Optimiser("sgd", learning_rate=1e-9, embedding_rate=1e-9))
    again = slow.fit(rows, epochs=2)
    assert np.allclose(again.margin, slow.decision_function(rows), atol=1e-5)


@pytest.mark.parametrize("link", ["identity", "log"])
def test_other_links_begin_at_the_mean_and_learn(link: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=2000)
    y = 3.0 + 0.5 * x if link == "identity" else rng.poisson(np.exp(1.0 + 0.3 * x))
    schema = Schema(label="y", columns={"x": Numeric()})
    net = Network(schema, ["x"], architecture=MLP((16,)), link=link, optimiser=Optimiser(learning_rate=0.01))
    losses = net.fit({"x": x, "y": y}, epochs=6).loss
    assert losses[-1] < losses[0]
    assert np.corrcoef(net.predict({"x": x}), 3.0 + 0.5 * x if link == "identity" else np.exp(1 + 0.3 * x))[0, 1] > 0.99


def test_the_manifest_says_what_the_network_is(tmp_path: Path) -> None:
    fitted(network(READY[2])).save(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text("utf-8"))
    assert manifest["architecture"]["kind"] == "DCN"
    assert manifest["settings"]["seed"] == 3
    assert manifest["passes"] == {"forwards": 200, "backwards": 200}
