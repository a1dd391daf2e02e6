"""Every architecture learns, gives the same bits again, grows, forks, and is saved and loaded; on a GPU too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.deep.parts import READY, Mine, fitted, network, same, table, torch, weights

from nearline.deep import MLP, Network, custom
from nearline.evaluate import auc


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

    @pytest.mark.parametrize("ads", [(1100, 1000), (500, 700, 1100)])
    def test_a_table_that_has_grown_is_loaded_at_the_size_that_it_had(
        self, architecture: Any, ads: tuple[int, ...], tmp_path: Path
    ) -> None:
        net = network(architecture)
        for part, n in enumerate(ads):
            net.partial_fit({**table(n, seed=part), "ad": [f"part{part}-{i}" for i in range(n)]})
        net.save(tmp_path / "net")
        again = Network.load(tmp_path / "net", architecture=architecture)
        assert same(weights(net), weights(again))

    def test_it_is_loaded_where_a_fork_has_taught_the_vocabulary_more(self, architecture: Any, tmp_path: Path) -> None:
        net = network(architecture)
        net.fit(table(200), epochs=1)
        many = {**table(1300, seed=1), "ad": [f"new{i}" for i in range(1300)]}
        net.fork().partial_fit(many)
        net.save(tmp_path / "net")
        again = Network.load(tmp_path / "net", architecture=architecture)
        assert np.array_equal(again.decision_function(many), net.decision_function(many))
        for one in (net, again):
            one.partial_fit(many)
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
