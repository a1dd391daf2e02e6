"""Networks: what they read, that training is what it says, the same bits again, growth, save and load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearline import Categorical, ConfigError, DataError, Hashed, Multi, Numeric, Schema, StateError, Vector
from nearline.evaluate import auc

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'nearline[deep]'")

from nearline.deep import DCN, DLRM, MLP, Network, Optimiser, custom  # noqa: E402

SCHEMA = Schema(
    label="y", weight="w", offset="o",
    columns={"x": Numeric(), "v": Vector(), "ad": Categorical(), "tags": Multi("|"), "text": Hashed(bits=6)},
)  # fmt: skip
COLUMNS = ["x", "v", "ad", "tags", "text"]
READY = [
    MLP((8,), embedding=4),
    MLP((), embedding=4),
    DCN(2, None, (8,), embedding=4),
    DCN(2, 2, (), embedding=4),
    DLRM((8,), (8,), embedding=4),
]
QUICK = Optimiser(learning_rate=0.01, embedding_rate=0.1, batch_size=64)


class Mine(torch.nn.Module):
    """A user's own: two outputs side by side, one of them the last layer."""

    def __init__(self, shape: Any) -> None:
        super().__init__()
        self.first = torch.nn.Linear(shape.flat, 16)
        self.head = torch.nn.Linear(16, 1)

    def forward(self, inputs: Any) -> torch.Tensor:
        return self.head(torch.relu(self.first(inputs.flat)))


def table(n: int = 300, seed: int = 0, ads: int = 6) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    x, ad = rng.normal(size=n), rng.integers(0, ads, n)
    tags = ["|".join(f"t{t}" for t in rng.choice(5, rng.integers(0, 4), replace=False)) for _ in range(n)]
    v = rng.normal(size=(n, 3))
    eta = 1.5 * x * np.where(ad % 2, 1, -1) + 0.8 * v[:, 0]
    y = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(int)
    x[rng.random(n) < 0.05] = np.nan
    return {
        "x": x, "v": v.tolist(), "ad": [f"a{i}" for i in ad], "tags": tags, "text": [f"w{i % 40}" for i in range(n)],
        "y": y, "w": np.ones(n), "o": np.zeros(n),
    }  # fmt: skip


def part(of: dict[str, Any], start: int, stop: int) -> dict[str, Any]:
    return {name: values[start:stop] for name, values in of.items()}


def network(architecture: Any = READY[0], **options: Any) -> Network:
    return Network(SCHEMA, COLUMNS, architecture=architecture, **{"optimiser": QUICK, "seed": 3, **options})


def weights(of: Network) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().copy() for name, tensor in of.module.state_dict().items()}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("architecture", [*READY, custom(Mine, embedding=4)], ids=str)
class TestEveryArchitecture:
    def test_it_learns_a_cross_that_no_linear_model_has(self, architecture: Any) -> None:
        net, history, after = network(architecture), table(3000), table(1000, seed=1)
        net.fit(history, epochs=6)
        found = auc(after["y"], net.decision_function(after))
        assert (found > 0.75) == (architecture != MLP((), embedding=4))

    def test_the_same_calls_give_the_same_bits(self, architecture: Any) -> None:
        runs = []
        for _ in range(2):
            torch.rand(7)  # torch's global state must not matter
            net = network(architecture)
            net.fit(table(200), epochs=2)
            net.partial_fit(table(200, seed=1))
            runs.append(weights(net))
        assert same(*runs)
        assert not same(runs[0], weights(fitted(network(architecture, seed=4))))

    def test_saved_and_loaded_it_goes_on_as_if_it_had_not_been(self, architecture: Any, tmp_path: Path) -> None:
        net = network(architecture)
        net.fit(table(200), epochs=1)
        net.save(tmp_path / "net")
        again = Network.load(tmp_path / "net", architecture=architecture)
        assert again.passes == net.passes
        assert np.array_equal(again.decision_function(table(50)), net.decision_function(table(50)))
        for one in (net, again):
            one.partial_fit(table(200, seed=1, ads=30))
            one.fit(table(100, seed=2), epochs=1, warm=True)
        assert same(weights(net), weights(again))

    def test_a_fork_learns_by_itself(self, architecture: Any) -> None:
        net = network(architecture)
        net.fit(table(200), epochs=1)
        twin, before = net.fork(), weights(net)
        twin.partial_fit(table(200, seed=1, ads=30))
        assert same(before, weights(net))
        net.partial_fit(table(200, seed=1, ads=30))
        assert same(weights(net), weights(twin))

    def test_new_values_grow_the_table_and_leave_old_rows_as_they_were(self, architecture: Any) -> None:
        net = network(architecture)
        net.fit(table(200), epochs=1)
        before = net.decision_function(table(50))
        many = {**table(1300, seed=1), "ad": [f"new{i}" for i in range(1300)]}
        net.design(many, learn=True)
        assert len(net.module.table.weight) >= net.encoder.n_slots > 1300
        assert np.array_equal(net.decision_function(table(50)), before)
        assert np.isfinite(net.partial_fit(many).loss[0])

    def test_what_is_recorded_is_what_a_forward_of_the_last_layer_says(self, architecture: Any) -> None:
        # Specification, section 12: pricing from a record equals that from a forward of the same version.
        net, rows = fitted(network(architecture)), table(40)
        recorded = net.information(rows, sketch=256)
        assert np.array_equal(recorded.logit, net.decision_function(rows))
        design, _ = net.design(rows, learn=True)
        for i in (0, 7):
            net.module.zero_grad()
            net.module.table.sparse = False
            one = design.select([i])
            logit, _ = net.module(net._bags(one))
            torch.nn.functional.softplus(logit).sub(one.label[0] * logit).sum().backward()
            gradient = torch.cat([p.grad.flatten() for p in net.module.head.parameters()])
            assert recorded.score(design.label)[i] == pytest.approx(float(gradient.norm()), rel=1e-5)
        codes = recorded.sketch(design.label)
        assert (codes**2).mean(axis=1) == pytest.approx(recorded.score(design.label) ** 2, rel=0.5)


def fitted(net: Network) -> Network:
    net.fit(table(200), epochs=1)
    return net


def test_one_step_is_the_gradient_of_the_weighted_mean() -> None:
    # Weights enter as the mean of ω_i ℓ_i over the mini-batch (specification, section 4.2).
    rows, omega = table(64), np.random.default_rng(0).exponential(size=64)
    plain = Optimiser("sgd", learning_rate=0.5, embedding_rate=0.5, batch_size=64)
    net = network(MLP((), embedding=2), optimiser=plain, dtype="float64")
    design, _ = net.design(rows, learn=True)
    before, p = weights(net), net.predict_proba(design)
    net.partial_fit(design, weight=omega)
    bags = net._bags(design)
    x = np.hstack([bags.dense.numpy(), np.zeros((64, 0))])
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
    whole, cut = network(), network()
    rows = table(256, ads=80)
    whole.partial_fit(rows)
    first = part(rows, 0, 128)
    cut.design(first, learn=True)  # the encoder standardises by the first table
    whole = network()
    whole.design(first, learn=True)
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


class TestWhatIsRefused:
    def test_scoring_before_any_table(self) -> None:
        with pytest.raises(StateError, match="seen no table"):
            network().predict_proba(table(3))

    def test_a_loss_that_is_not_finite(self) -> None:
        wild = Optimiser("sgd", learning_rate=1e30, embedding_rate=1.0, batch_size=16)
        with pytest.raises(StateError, match="lower the learning rate"):
            network(optimiser=wild).fit(table(200), epochs=3)

    @pytest.mark.parametrize("bad", [[1.0, 2.0], [-1.0] * 10, [np.nan] * 10])
    def test_bad_weights(self, bad: list[float]) -> None:
        with pytest.raises(DataError, match="weight"):
            network().partial_fit(table(10), weight=bad)

    def test_a_vector_of_unknown_length(self) -> None:
        with pytest.raises(DataError, match="length is unknown"):
            network().partial_fit({**table(3), "v": [None] * 3})

    def test_settings_that_cannot_be_meant(self) -> None:
        with pytest.raises(ConfigError, match="none that torch knows"):
            network(device="abacus")
        with pytest.raises(ConfigError, match="float16"):
            network(dtype="float16")
        with pytest.raises(ConfigError, match="batch_size"):
            Optimiser(batch_size=0)
        with pytest.raises(ConfigError, match="weight_decay"):
            Optimiser("sgd", weight_decay=0.1)
        with pytest.raises(ConfigError, match="at least 1"):
            MLP((0,))
        with pytest.raises(ConfigError, match="epochs"):
            network().fit(table(3), epochs=0)
        if not torch.cuda.is_available():
            with pytest.raises(ConfigError, match="sees no CUDA"):
                network(device="cuda")

    def test_a_custom_network_without_its_code(self, tmp_path: Path) -> None:
        fitted(network(custom(Mine, embedding=4))).save(tmp_path / "net")
        with pytest.raises(StateError, match="Mine"):
            Network.load(tmp_path / "net")
        with pytest.raises(StateError, match="not as the architecture given"):
            Network.load(tmp_path / "net", architecture=MLP())

    def test_an_altered_file(self, tmp_path: Path) -> None:
        fitted(network()).save(tmp_path)
        path = next(tmp_path.glob("state-*"))
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        with pytest.raises(StateError, match="altered"):
            Network.load(tmp_path)

    def test_another_kind_of_model(self, tmp_path: Path) -> None:
        from nearline import Fixed, GLMix

        GLMix(Schema(label="y"), Fixed()).save(tmp_path / "glmix")
        with pytest.raises(StateError, match="holds a GLMix"):
            Network.load(tmp_path / "glmix")
        fitted(network()).save(tmp_path / "network")
        with pytest.raises(StateError, match="holds a network"):
            GLMix.load(tmp_path / "network")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("architecture", READY, ids=str)
def test_a_gpu_gives_the_same_network_within_rounding(architecture: Any, tmp_path: Path) -> None:
    nets = [network(architecture, device=device) for device in ("cpu", "cuda")]
    for net in nets:
        net.fit(table(500), epochs=2)
        net.partial_fit(table(200, seed=1, ads=1500))
    cpu, gpu = (net.decision_function(table(100, seed=2)) for net in nets)
    assert gpu == pytest.approx(cpu, abs=2e-3)
    nets[1].save(tmp_path)
    assert Network.load(tmp_path).decision_function(table(100, seed=2)) == pytest.approx(gpu, abs=1e-4)


def test_the_manifest_says_what_the_network_is(tmp_path: Path) -> None:
    fitted(network(READY[2])).save(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text("utf-8"))
    assert manifest["architecture"]["kind"] == "DCN"
    assert manifest["settings"]["seed"] == 3
    assert manifest["passes"] == {"forwards": 200, "backwards": 200}


class TestLeverage:
    """ℓ = D/k + Σ_j x_j² (1 + N) / (1 + M_j), from the weighted rows that were trained on."""

    def rows(self, n: int = 60) -> dict[str, Any]:
        rng = np.random.default_rng(0)
        return {
            "ad": rng.choice(list("abcd"), n, p=[0.6, 0.2, 0.15, 0.05]).tolist(),
            "tags": rng.choice(["r|s|t", "r|s", "r", ""], n).tolist(), "y": rng.integers(0, 2, n).tolist(),
        }  # fmt: skip

    def trained(self) -> tuple[Network, dict[str, Any], np.ndarray]:
        schema = Schema(label="y", columns={"ad": Categorical(), "tags": Multi("|")})
        network = Network(schema, ["ad", "tags"], architecture=MLP((4,), embedding=2), optimiser=QUICK)
        rows, weight = self.rows(), np.random.default_rng(1).exponential(size=60)
        network.partial_fit(rows, weight=weight)
        return network, rows, weight

    def test_it_is_what_the_equation_says_however_the_rows_were_cut(self) -> None:
        network, rows, weight = self.trained()
        parts = [[text] for text in rows["ad"]], [text.split("|") if text else [] for text in rows["tags"]]
        layers = sum(p.numel() for name, p in network.module.named_parameters() if "table" not in name) / 2
        expected = np.full(60, layers)
        for field in parts:
            values = sorted({value for row in field for value in row})
            x = np.array([[(value in row) / max(len(row), 1) for value in values] for row in field])
            mass = weight @ x**2
            expected += (x**2 * (1 + weight.sum()) / (1 + mass)).sum(axis=1)
        np.testing.assert_allclose(network.leverage(rows, ["ad", "tags"]), expected, rtol=1e-5)

    def test_only_the_columns_named_count_and_a_forward_pass_is_not_needed(self) -> None:
        network, rows, _ = self.trained()
        before = network.passes.forwards
        assert len(set(network.leverage(rows, []).tolist())) == 1
        assert len(set(network.leverage(rows, ["ad"]).tolist())) == 4
        assert network.passes.forwards == before
        with pytest.raises(ConfigError, match="age"):
            network.leverage(rows, ["age"])

    def test_other_columns_are_not_needed(self) -> None:
        network, rows, _ = self.trained()
        for columns in (["ad"], ["tags"], ["tags", "ad"]):
            alone = network.leverage({name: rows[name] for name in columns}, columns)
            assert np.array_equal(alone, network.leverage(rows, columns))

    def test_a_value_without_a_slot_counts_as_never_trained_on_and_gets_none(self) -> None:
        network, rows, weight = self.trained()
        layers, before = network.leverage(rows, [])[0], network.encoder.n_slots
        once, known = 1 + weight.sum(), network.leverage({"tags": ["r"]}, ["tags"])[0] - layers
        new = {"ad": ["z", "a"], "tags": ["u", "r|u"]}
        found = network.leverage(new, ["ad"]), network.leverage(new, ["tags"])
        assert found[0][0] == pytest.approx(layers + once)
        assert found[1] == pytest.approx([layers + once, layers + once / 4 + known / 4])
        assert network.encoder.n_slots == before
        # Nor does it matter whether a twin, which shares the vocabulary, has met the value.
        network.fork().partial_fit({**new, "y": [0, 1]})
        assert network.encoder.n_slots > before
        for columns, held in zip((["ad"], ["tags"]), found):
            assert np.array_equal(network.leverage(new, columns), held)
            assert np.array_equal(network.leverage(network.design(new, learn=False)[0], columns), held)

    def test_it_is_saved_and_forked_with_the_network(self, tmp_path: Path) -> None:
        network, rows, _ = self.trained()
        held = network.leverage(rows, ["ad", "tags"])
        twin = network.fork()
        twin.partial_fit(rows)
        assert np.array_equal(network.leverage(rows, ["ad", "tags"]), held)
        assert not np.array_equal(twin.leverage(rows, ["ad", "tags"]), held)
        again = Network.load(network.save(tmp_path / "network"))
        assert np.array_equal(again.leverage(rows, ["ad", "tags"]), held)
