"""Sequential Bayes for networks: equal to the linear model where the network is one, exact where it can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearline import Categorical, ConfigError, Fixed, GLMix, Numeric, Prior, Schema
from nearline.evaluate import log_loss
from nearline.glmix import _links
from nearline.glmix._solve import solve

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'nearline[deep]'")

from nearline.deep import DCN, DLRM, MLP, Laplace, Network, Optimiser, custom  # noqa: E402

SCHEMA = Schema(
    label="y", weight="w", offset="o", columns={"x": Numeric(0.0, 1.0), "u": Numeric(0.0, 1.0), "ad": Categorical()}
)
LINEAR = MLP(hidden=())


class Plain(torch.nn.Module):
    """Two linear layers without an activation: its Kronecker factors are exact."""

    def __init__(self, shape: Any) -> None:
        super().__init__()
        self.first, self.head = torch.nn.Linear(shape.flat, 3), torch.nn.Linear(3, 1)

    def forward(self, inputs: Any) -> torch.Tensor:
        return self.head(self.first(inputs.flat))


class Normed(torch.nn.Module):
    """A network whose weights are not all of linear layers."""

    def __init__(self, shape: Any) -> None:
        super().__init__()
        self.norm, self.head = torch.nn.LayerNorm(shape.flat), torch.nn.Linear(shape.flat, 1)

    def forward(self, inputs: Any) -> torch.Tensor:
        return self.head(self.norm(inputs.flat))


def table(n: int = 80, seed: int = 0, link: str = "logit", ads: int = 4) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    x, u, o = rng.normal(size=n), rng.normal(size=n), 0.3 * rng.normal(size=n)
    eta = 0.8 * x - 0.4 * u + 0.2 + o
    y = {
        "logit": rng.random(n) < 1 / (1 + np.exp(-eta)),
        "identity": eta + rng.normal(size=n),
        "log": rng.poisson(np.exp(eta)),
    }[link]
    ad = [f"a{i}" for i in rng.integers(0, ads, n)]
    return {"x": x, "u": u, "o": o, "w": rng.exponential(size=n), "ad": ad, "y": y.astype(float)}


def network(columns: list[str], structure: Any, architecture: Any = LINEAR, **options: Any) -> Network:
    return Network(
        SCHEMA, columns, architecture=architecture, dtype="float64", laplace=Laplace(structure, 2.0),
        optimiser=Optimiser(learning_rate=0.01, embedding_rate=0.1, batch_size=32), **options,
    )  # fmt: skip


def folded(theta: Any, H: Any, omega: float) -> tuple[Any, Any]:
    """P = Λ0 + ω (H − Λ0), m = P⁻¹ ω H θ with Λ0 = 2 I, μ0 = 0."""
    base = 2.0 * np.eye(len(theta))
    P = base + omega * (H - base)
    return np.linalg.solve(P, omega * H @ theta), P


@pytest.mark.parametrize("link", ["logit", "identity", "log"])
@pytest.mark.parametrize("structure", ["diagonal", "kronecker", "last_layer"])
def test_a_network_of_one_layer_learns_as_the_linear_model_does(structure: str, link: str) -> None:
    net = network(["x", "u"], structure, link=link)
    theta, H = np.zeros(5), 2.0 * np.eye(5)  # x, x (missing), u, u (missing), bias
    for seed, omega in enumerate((1.0, 0.7, 1.0, 1.3)):
        rows = table(seed=seed, link=link)
        assert net.update(rows, past_weight=omega, tolerance=1e-7).converged
        X = np.column_stack([rows["x"], np.zeros(80), rows["u"], np.zeros(80), np.ones(80)])
        m, P = folded(theta, H, omega)
        fit = solve(X, rows["y"], rows["w"], rows["o"], m, P, _links.by_name(link))
        theta, H = fit.theta, np.diag(np.diag(fit.H)) if structure == "diagonal" else fit.H
        found = np.append(net.module.head.weight.detach().numpy()[0], net.module.head.bias.detach().numpy())
        assert found == pytest.approx(theta, abs=1e-5)
        after = table(20, seed=9, link=link)
        Z = np.column_stack([after["x"], np.zeros(20), after["u"], np.zeros(20), np.ones(20)])
        expected = ((Z @ np.linalg.inv(H)) * Z).sum(axis=1)
        assert net.variance(after) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("structure", "posterior"), [("last_layer", "full"), ("diagonal", "diagonal")])
def test_one_call_updates_either_kind_of_fixed_effect(structure: str, posterior: Any) -> None:
    linear = GLMix(SCHEMA, Fixed("x", "u", prior=Prior(variance=0.5), posterior=posterior))
    net = network(["x", "u"], structure)
    for seed, omega in enumerate((1.0, 0.8, 1.0)):
        for model in (linear, net):
            model.update(table(seed=seed), past_weight=omega, tolerance=1e-8)
    after = table(50, seed=9)
    assert net.decision_function(after) == pytest.approx(linear.decision_function(after), abs=1e-5)


def gradients(net: Network, rows: Any) -> tuple[list[str], list[list[torch.Tensor]]]:
    """∂logit/∂θ of every row by itself: the oracle of everything below."""
    design, _ = net.design(rows, learn=True)
    net.module.table.sparse = False
    named = [(name, p) for name, p in net.module.named_parameters() if p.numel()]
    out = []
    for i in range(design.rows):
        logit, _ = net.module(net._bags(design.select([i])))
        out.append([g.detach() for g in torch.autograd.grad(logit.sum(), [p for _, p in named])])
    net.module.table.sparse = True
    return [name for name, _ in named], out


def strengths(net: Network, rows: Any) -> Any:
    p = net.predict_proba(rows)
    return np.asarray(rows["w"]) * p * (1 - p)


@pytest.mark.parametrize(
    "architecture",
    [
        MLP((5,), embedding=3),
        DCN(1, None, (4,), embedding=2),
        DCN(2, 2, (), embedding=2),
        DLRM((4,), (3,), embedding=3),
    ],
    ids=str,
)
def test_a_diagonal_is_the_sum_of_squared_gradients_of_every_row(architecture: Any) -> None:
    net, rows = network(["x", "ad", "u"], "diagonal", architecture), table(40)
    net.fit(rows, epochs=2)
    net.consolidate(rows)
    names, per_row = gradients(net, rows)
    said = {name: sum(s * g[i] ** 2 for s, g in zip(strengths(net, rows), per_row)) for i, name in enumerate(names)}
    for name, expected in said.items():
        layer = name.removesuffix(".weight").removesuffix(".bias")
        J = net.evidence[layer].J
        found = J[:, -1] if name.endswith(".bias") else J[:, : expected.shape[1]]
        assert torch.allclose(found, expected, atol=1e-12), name
    H = {name: 2.0 + expected for name, expected in said.items()}
    variance = [sum(float((g**2 / H[name]).sum()) for name, g in zip(names, row)) for row in per_row]
    assert net.variance(rows) == pytest.approx(variance, rel=1e-9)


def test_kronecker_factors_are_exact_where_all_rows_share_their_outputs_gradient() -> None:
    net, rows = network(["x", "u"], "kronecker", custom(Plain)), table(40)
    net.fit(rows, epochs=2)
    net.consolidate(rows)
    names, per_row = gradients(net, rows)
    w, b = names.index("body.first.weight"), names.index("body.first.bias")
    exact = torch.zeros(15, 15).double()
    for s, g in zip(strengths(net, rows), per_row):
        J = torch.cat([g[w], g[b][:, None]], dim=1).flatten()
        exact += s * torch.outer(J, J)
    said = net.evidence["body.first"]
    assert torch.allclose(torch.kron(said.G, said.A), exact, atol=1e-10)
    half = said.weighed(0.5)
    assert torch.allclose(torch.kron(half.G, half.A), 0.5 * exact, atol=1e-10)


def test_a_past_of_no_weight_is_the_base_prior() -> None:
    forgetful, fresh = (network(["x", "u"], "kronecker") for _ in range(2))
    forgetful.update(table(seed=1))
    forgetful.update(table(seed=2), past_weight=0.0, tolerance=1e-9)
    fresh.update(table(seed=2), tolerance=1e-9)
    rows = table(30, seed=3)
    assert forgetful.decision_function(rows) == pytest.approx(fresh.decision_function(rows), abs=1e-6)
    assert forgetful.variance(rows) == pytest.approx(fresh.variance(rows), abs=1e-6)


@pytest.mark.parametrize("structure", ["diagonal", "kronecker", "last_layer"])
def test_what_was_learned_before_is_kept_as_far_as_the_past_counts(structure: str) -> None:
    def world(seed: int, low: float, high: float) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        x = rng.uniform(low, high, 600)
        y = (rng.random(600) < np.where(np.abs(x) > 1, 0.9, 0.1)).astype(float)
        return {"x": x, "y": y, "w": np.ones(600), "o": np.zeros(600)}

    left, right = world(0, -2, 0), world(1, 0, 2)
    losses = {}
    for past in (1.0, 0.0):
        net = network(["x"], structure, MLP((8,)))
        net.fit(left, epochs=30)
        net.consolidate(left)
        net.update(right, past_weight=past, steps=60)
        losses[past] = log_loss(left["y"], net.predict_proba(left))
        assert log_loss(right["y"], net.predict_proba(right)) < 0.65
    assert losses[1.0] < losses[0.0]


def test_a_fit_from_the_start_knows_nothing_of_earlier_updates() -> None:
    net, fresh = network(["x", "u"], "diagonal"), network(["x", "u"], "diagonal")
    net.update(table(seed=1))
    for one in (net, fresh):
        one.fit(table(seed=2), epochs=1)
    assert np.array_equal(net.variance(table(5)), fresh.variance(table(5)))


def test_averaged_probabilities_are_drawn_to_a_half_where_the_network_is_unsure() -> None:
    net, rows = network(["x", "u"], "last_layer"), table(20, seed=4)
    net.update(table())
    eta, s = net.decision_function(rows), net.variance(rows)
    expected = 1 / (1 + np.exp(-eta / np.sqrt(1 + np.pi * s / 8)))
    assert net.predict_proba(rows, averaged=True) == pytest.approx(expected, abs=1e-12)
    assert (np.abs(expected - 0.5) < np.abs(net.predict_proba(rows) - 0.5)).all()


def test_what_an_update_costs_is_counted() -> None:
    net = network(["x", "u"], "diagonal")
    updated = net.update(table())
    assert net.passes.backwards == 80 * (updated.steps + 1)
    before = net.passes.cost
    net.variance(table(30))
    assert net.passes.cost == before + 90


def test_a_value_that_nobody_has_seen_is_less_sure() -> None:
    net = network(["ad"], "diagonal", MLP((4,), embedding=3))
    net.fit(table(200), epochs=3)
    net.consolidate(table(200))
    held = len(net.module.table.weight)
    net.design({**table(2000), "ad": [f"new{i}" for i in range(2000)]}, learn=True)
    assert len(net.module.table.weight) > held
    seen, new = net.variance({**table(2), "ad": ["a1", f"new{held}"]})
    assert new > seen > 0
    net.update({**table(400, seed=1), "ad": [f"new{held}"] * 400})
    assert net.variance({**table(1), "ad": [f"new{held}"]})[0] < new


@pytest.mark.parametrize("structure", ["diagonal", "kronecker", "last_layer"])
def test_the_posterior_is_saved_with_the_network(structure: str, tmp_path: Path) -> None:
    net = network(["x", "ad"], structure, MLP((4,), embedding=3))
    net.update(table(60), steps=20)
    again = Network.load(net.save(tmp_path))
    twin = net.fork()
    rows = table(60, seed=2, ads=9)
    for one in (net, again, twin):
        one.update(rows, past_weight=0.8, steps=20)
    for one in (again, twin):
        assert np.array_equal(one.variance(rows), net.variance(rows))
        assert np.array_equal(one.decision_function(rows), net.decision_function(rows))


class TestWhatIsRefused:
    def test_weights_whose_curvature_is_not_known(self) -> None:
        with pytest.raises(ConfigError, match=r"'body\.norm\.weight' belongs to no linear layer"):
            network(["x", "u"], "diagonal", custom(Normed)).update(table())
        assert network(["x", "u"], "last_layer", custom(Normed)).update(table()).converged

    def test_a_last_layer_that_is_not_there(self) -> None:
        class Headless(torch.nn.Module):
            def __init__(self, shape: Any) -> None:
                super().__init__()
                self.weight = torch.nn.Parameter(torch.zeros(shape.flat))

            def forward(self, inputs: Any) -> torch.Tensor:
                return inputs.flat @ self.weight

        with pytest.raises(ConfigError, match="name it 'head'"):
            network(["x"], "last_layer", custom(Headless)).update(table())

    def test_settings_that_cannot_be_meant(self) -> None:
        with pytest.raises(ConfigError, match="past_weight"):
            network(["x"], "diagonal").update(table(), past_weight=-0.1)
        with pytest.raises(ConfigError, match="banded"):
            Laplace("banded")  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="precision"):
            Laplace(precision=0.0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("structure", ["diagonal", "kronecker", "last_layer"])
def test_a_gpu_gives_the_same_posterior(structure: str, tmp_path: Path) -> None:
    nets = [network(["x", "ad"], structure, MLP((4,), embedding=3), device=device) for device in ("cpu", "cuda")]
    for net in nets:
        net.update(table(60), steps=40)
        net.update(table(60, seed=1, ads=9), past_weight=0.9, steps=40)
    rows = table(30, seed=2)
    assert nets[1].variance(rows) == pytest.approx(nets[0].variance(rows), rel=1e-3)
    again = Network.load(nets[1].save(tmp_path), device="cuda")
    again.update(rows)
    assert np.isfinite(again.variance(rows)).all()
