"""A network as the fixed effect of a running service: fitted, served, recorded, learned on, swapped, audited."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.loop.deep_parts import SAFETY, Talk, configured, model_of, rows_of, said

pytest.importorskip("torch", reason="nearline.deep needs torch: pip install 'nearline[deep]'")

from nearline.deep import RECORDED
from nearline.gate import held_out
from nearline.loop import audit


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose version 1.0.0, with a network, is live."""
    file = configured(tmp_path)
    assert said("fit", str(file))["version"] == "1.0.0"
    return file


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


def test_every_kind_of_column_is_served_recorded_and_learned_on(tmp_path: Path) -> None:
    """A key that the network reads too, several levels, hashes, vectors, missing values."""
    file = configured(tmp_path, """
[schema.columns.member]
kind = "categorical"

[schema.columns.words]
kind = "multi"

[schema.columns.query]
kind = "hashed"
bits = 6

[schema.columns.place]
kind = "vector"
""")  # fmt: skip
    text = file.read_text().replace(
        'on = ["price", "device"]', 'on = ["price", "device", "member", "words", "query", "place"]'
    )
    file.write_text(text.replace('key = "member"', 'key = "member"\non = ["words", "price"]').replace('"mlp"', '"dcn"'))

    def more(n: int, seed: int) -> dict[str, list[Any]]:
        rng = np.random.default_rng(seed)
        return rows_of(n, seed)[0] | {
            "words": [[f"w{k}" for k in rng.integers(0, 5, 2)] for _ in range(n)],
            "query": [f"q{k}" for k in rng.integers(0, 99, n)], "place": rng.normal(size=(n, 2)).tolist(),
        }  # fmt: skip

    history = pa.table({**more(600, 0), "clicked": rows_of(600, 0)[1].astype(int)})
    pq.write_table(history, tmp_path / "history.parquet")
    assert said("fit", str(file))["version"] == "1.0.0"
    model, rows = model_of(file, "1.0.0"), more(60, 4)
    rows["member"][0] = 999  # nobody knows them
    rows["words"][1] = ["new", "w1"]
    for name in ("price", "device", "query", "place"):
        rows[name][2] = None
    with Talk(file) as talk:
        told = talk.predict(rows)
        assert [one["probability"] for one in told] == pytest.approx(model.predict_proba(pa.table(rows)), abs=1e-6)
        outcomes = [{"prediction_id": one["prediction_id"], "label": k % 2} for k, one in enumerate(told)]
        assert talk.ask("POST", "/outcome", json={"outcomes": outcomes})["accepted"] == 60
        talk.turn()
        assert talk.predict(more(1, 5))[0]["version"] == "1.0.60"
    assert audit(tmp_path / "state", SAFETY).posteriors_differ == 0
    made = said("train", str(file))
    assert (made["version"], made["seen"]) == ("2.0.0", 60)
    with Talk(file) as talk:
        talk.turn()
        assert talk.predict(more(1, 6))[0]["version"] == "2.0.0"


def test_a_link_without_probabilities_and_minibatches(tmp_path: Path) -> None:
    file = configured(tmp_path, '\n[deep]\nwindow = 100\n[model]\nlink = "identity"\nmode = "minibatch"\n')
    said("fit", str(file))
    with Talk(file) as talk:
        assert "prediction" in talk.predict(rows_of(1, 2)[0])[0]
        talk.stream(200, 3)
    assert audit(tmp_path / "state", SAFETY).posteriors_differ == 0
    assert said("train", str(file))["chosen"] == 20


def test_rows_that_are_held_out_are_never_trained_on(tmp_path: Path) -> None:
    file = configured(tmp_path, "\n[deep]\nbudget = 1.0\n")
    file.write_text(file.read_text().replace("[gate]", '[gate]\nholdout = ["member"]\nshare = 0.3'))
    said("fit", str(file))
    with Talk(file) as talk:
        talk.stream(300, 3)
        members = talk.loop.storage.predictions.read(0).column("member").to_numpy()
    held = held_out({"member": members}, 0.3)
    assert 0 < held.sum() < 300
    made = said("train", str(file))
    assert made["seen"] == made["chosen"] == np.count_nonzero(~held)


def test_from_a_network_to_a_linear_model_and_back(tmp_path: Path) -> None:
    """The open log of predictions has the columns of the model that it was opened for: more are got by a restart."""
    file = configured(tmp_path)
    text = file.read_text()
    said("fit", str(file))
    with Talk(file) as talk:
        talk.stream(100, 1)
    file.write_text(text[: text.index("[fixed.network]")] + text[text.index("[[random]]") :])
    assert said("fit", str(file), "--on", "both")["version"] == "2.0.0"
    for _ in range(2):  # the second time the log is opened for the linear model
        with Talk(file) as talk:
            talk.turn()
            talk.stream(50, 2)
            assert talk.loop.live.scorer.version.startswith("2.0.")
    with Talk(file) as talk:
        # What cannot be recorded is not served: the linear model stays, and goes on.
        served = talk.ask("POST", "/versions/rollback", json={"to": "1.0.100", "why": "a test"})["version"]
        assert served.startswith("2.0.")
        talk.stream(50, 3)
    assert said("rollback", str(file), "--to", "1.0.100", "--why", "a test")
    with Talk(file) as talk:
        talk.stream(50, 4)
        assert talk.loop.live.scorer.version.startswith("1.")
        assert "network_logit" in talk.loop.storage.predictions.schema.names
    assert audit(tmp_path / "state", SAFETY).posteriors_differ == 0
