"""A network as the fixed effect of a running service: fitted, served, recorded, learned on, swapped, audited."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.loop.deep_parts import SAFETY, Talk, configured, rows_of, said

pytest.importorskip("torch", reason="nearline.deep needs torch: pip install 'nearline[deep]'")

from nearline.deep import RECORDED, NetworkGLMix, load_model
from nearline.loop import audit
from nearline.store import Registry, Version


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose version 1.0.0, with a network, is live."""
    file = configured(tmp_path)
    assert said("fit", str(file))["version"] == "1.0.0"
    return file


def model_of(config: Path, version: str) -> NetworkGLMix:
    registry = Registry(config.parent / "state", clock=lambda: 0.0)
    try:
        found = load_model(registry.path(Version.parse(version)))
    finally:
        registry.close()
    assert isinstance(found, NetworkGLMix)
    return found


def test_served_probabilities_are_those_of_the_saved_model(config: Path) -> None:
    model = model_of(config, "1.0.0")
    rows, label = rows_of(200, 5)
    with Talk(config) as talk:
        told = np.array([one["probability"] for one in talk.predict(rows)])
    assert told == pytest.approx(model.predict_proba(rows), abs=1e-6)
    # The truth is a product of two columns: a linear model could not tell more than a coin.
    assert np.mean((told > 0.5) == label) > 0.7


def test_what_the_forward_pass_said_is_recorded_in_sixteen_bytes(config: Path) -> None:
    model = model_of(config, "1.0.0")
    rows, _ = rows_of(40, 6)
    with Talk(config) as talk:
        talk.predict(rows)
        log = talk.loop.storage.predictions
        taken = log.read(log.first)
        information = model.network.information(rows)
        assert set(taken.column("network").to_pylist()) == {model.identity}
        logit = model.log_odds(information.logit)
        assert taken.column("network_logit").to_numpy() == pytest.approx(logit, abs=1e-6)
        assert taken.column("network_norm").to_numpy() == pytest.approx(information.norm, rel=1e-6)
        assert sum(field.type.bit_width for field in RECORDED) == 8 * 16
        assert taken.column("price").to_pylist() == rows["price"]


def test_learning_needs_no_forward_pass_and_the_audit_finds_the_same_bits(config: Path) -> None:
    with Talk(config) as talk:
        before = talk.predict(rows_of(20, 7)[0])
        network = talk.loop.live.scorer.model.network  # type: ignore[attr-defined]
        passes = network.passes.forwards
        ids = talk.stream(300, 8)
        assert network.passes.forwards == passes + 300
        after = talk.predict(rows_of(20, 7)[0])
        assert [one["probability"] for one in before] != [one["probability"] for one in after]
        assert after[0]["version"] == "1.0.300"
    found = audit(config.parent / "state", SAFETY)
    assert found.posteriors_differ == 0
    assert set(found.labels) == set(ids)


def test_another_network_is_caught_up_with_under_its_own_log_odds(config: Path) -> None:
    with Talk(config) as talk:
        talk.stream(300, 8)
    made = said("fit", str(config), "--on", "both", "--cutoff", "200")
    assert (made["version"], made["cutoff"]) == ("2.0.0", 200)
    with Talk(config) as talk:
        talk.turn()
        # 100 examples after the cut-off were learned anew, as examples of the new line.
        assert talk.predict(rows_of(1, 3)[0])[0]["version"] == "2.0.400"
        talk.stream(100, 9)
        assert talk.predict(rows_of(1, 3)[0])[0]["version"] == "2.0.500"
    found = audit(config.parent / "state", SAFETY)
    assert found.posteriors_differ == 0
    # A restart, and the way back.
    with Talk(config) as talk:
        talk.stream(50, 10)
        assert talk.ask("POST", "/versions/rollback", json={"to": "1.0.300", "why": "a test"})["version"] == "1.0.300"
        talk.stream(50, 11)
    assert audit(config.parent / "state", SAFETY).posteriors_differ == 0
    shown = said("diff", "1.0.0", "2.0.0", str(config))
    assert shown


def test_a_request_without_a_column_of_the_network_is_answered_and_a_wrong_one_refused(config: Path) -> None:
    with Talk(config) as talk:
        assert len(talk.predict({"member": [3], "price": [1.0]})) == 1
        with pytest.raises(AssertionError, match="colour"):
            talk.predict({"member": [3], "colour": ["red"]})


def test_a_service_whose_model_is_linear_imports_no_torch(tmp_path: Path) -> None:
    file = configured(tmp_path)
    text = file.read_text()
    file.write_text(text[: text.index("[fixed.network]")] + text[text.index("[[random]]") :])
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.loop.deep_parts import Talk, said
from pathlib import Path
file = Path({str(file)!r})
assert said("fit", str(file))["version"] == "1.0.0"
with Talk(file) as talk:
    talk.stream(50, 1)
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("False")
