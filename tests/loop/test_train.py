"""`nearline train`: chosen before it is loaded, logged, judged, published, and answered for."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.loop.deep_parts import SAFETY, Talk, configured, model_of, rows_of, said

pytest.importorskip("torch", reason="nearline.deep needs torch: pip install 'nearline[deep]'")

from nearline.cli._schedule import Trainings
from nearline.config import load
from nearline.loop import History, Offered, SelectionLog, Trainee, Training, audit, train
from nearline.select import Policy, SelectorState, by_name, replay
from nearline.store import Registry, Version

DEEP = '\n[deep]\nselect = "pps"\nbudget = 0.25\nwindow = 100\nseed = 7\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose version 1.0.0 is live, with 400 examples after it."""
    file = configured(tmp_path, DEEP)
    said("fit", str(file))
    with Talk(file) as talk:
        talk.stream(400, 1)
    return file


def test_features_of_the_chosen_rows_alone_are_read(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(config, "1.0.0")
    read: list[int] = []
    taken = History.taken

    def counting(self: History, predictions: Any) -> Any:
        read.extend(predictions.tolist())
        return taken(self, predictions)

    monkeypatch.setattr(History, "taken", counting)
    with History(config.parent / "state", model) as history:
        offered = Offered(history, model, 0, 400, whole=1)
        assert (len(offered), read) == (400, [])
        assert np.isfinite(offered.scores.score).all()
        policy = Policy(by_name("pps"), task="binary")
        trainee, log = train(Trainee(model.folded(), SelectorState()), offered, policy, Training(policy, 0.25, 100, 7))
    chosen = [row["prediction"][k] for row in log.to_pylist() for k in row["index"]]
    assert read == chosen
    assert (len(chosen), offered.loaded, trainee.windows) == (100, 100, 4)
    assert (trainee.network.passes.forwards, trainee.network.passes.backwards) == (100, 100)


def test_prices_are_those_of_a_forward_pass_that_is_not_made(config: Path) -> None:
    model = model_of(config, "1.0.0")
    with History(config.parent / "state", model) as history:
        offered = Offered(history, model, 0, 400, whole=3)
        rows = offered.load(np.arange(400))
    information = model.network.information(rows)
    p = 1 / (1 + np.exp(-model.log_odds(information.logit)))
    assert offered.scores.score == pytest.approx(np.abs(p - offered.label) * information.norm, rel=1e-5)
    assert set(offered.scores.lag) == {2.0}


def test_a_training_is_published_and_changes_what_is_served_and_the_audit_agrees(config: Path) -> None:
    rows, _ = rows_of(30, 50)
    made = said("train", str(config))
    assert (made["version"], made["published"], made["cutoff"]) == ("2.0.0", True, 400)
    assert (made["seen"], made["chosen"]) == (400, 100)
    before, after = model_of(config, "1.0.0"), model_of(config, "2.0.0")
    assert before.identity != after.identity
    with Talk(config) as talk:
        talk.turn()
        told = talk.predict(rows)
        assert told[0]["version"] == "2.0.0"
        assert [one["probability"] for one in told] == pytest.approx(after.predict_proba(rows), abs=1e-6)
        ids = talk.stream(100, 2)
    found = audit(config.parent / "state", SAFETY)
    assert found.posteriors_differ == 0
    assert set(ids) <= set(found.labels)
    # A second training goes on from the first: its windows are numbered on, and only new examples are offered.
    made = said("train", str(config))
    assert (made["version"], made["seen"], made["chosen"]) == ("3.0.0", 100, 25)
    log = SelectionLog(config.parent / "state")
    assert log.read(Version(3)).column("window").to_pylist() == [4]


def test_two_trainings_around_a_swap_count_every_example_once(tmp_path: Path) -> None:
    """What a swap appended anew lies in the next training's stretch of the ledger, and is not learned twice."""
    file = configured(tmp_path, DEEP, gate="true")
    text = file.read_text().replace("[gate]", "[gate]\nminimum = 20\ntolerance = 9.0\ncalibration_error = 1.0")
    file.write_text(text.replace("[gate]", "[gate]\nnegative_flips = 1.0\ncalibration = [0.1, 10.0]"))
    said("fit", str(file))
    ids: list[str] = []
    for seed, version in ((1, "2.0.0"), (2, "3.0.0")):
        with Talk(file) as talk:
            ids += talk.stream(400, seed)
        assert said("train", str(file))["version"] == version
    with Talk(file) as talk:
        assert talk.loop.learner.line.whole == 3
        ids += talk.stream(100, 3)
    found = audit(tmp_path / "state", SAFETY)
    assert (found.doubled, found.posteriors_differ) == (0, 0)
    assert found.labels.keys() == set(ids)


def test_the_log_of_a_training_makes_the_same_choices_to_the_bit(config: Path) -> None:
    said("train", str(config))
    model = model_of(config, "1.0.0")
    log = SelectionLog(config.parent / "state").read(Version(2)).to_pylist()
    with History(config.parent / "state", model) as history:
        windows = list(Offered(history, model, 0, 400, whole=1).windows(100))
    assert len(log) == len(windows) == 4
    for row, (_, scores) in zip(log, windows):
        again = replay(row, scores)
        assert again.index.tolist() == row["index"]
        assert again.prob is not None
        assert again.prob.tolist() == row["prob"]
        assert again.weight.tolist() == row["weight"]
    # The same ledger and configuration: the same network, bit for bit.
    once = model_of(config, "2.0.0").identity
    with Talk(config) as talk:
        assert talk.ask("POST", "/versions/rollback", json={"to": "1.0.400", "why": "again"})["version"] == "1.0.400"
    assert said("train", str(config), "--no-publish")["version"] == "3.0.0"
    assert model_of(config, "3.0.0").identity == once


def test_why_says_of_a_prediction_whether_it_was_used_and_how_likely_that_was(config: Path) -> None:
    said("train", str(config))
    row = SelectionLog(config.parent / "state").read(Version(2)).to_pylist()[1]
    with Talk(config) as talk:
        ids = talk.loop.storage.predictions.read(0).column("prediction_id").to_pylist()
    chosen = row["prediction"][row["index"][0]]
    passed = next(one for k, one in enumerate(row["prediction"]) if k not in row["index"])
    found = said("why", ids[chosen], str(config))["trainings"]
    assert [(one["version"], one["fate"], one["window"]) for one in found] == [("2.0.0", "chosen", 1)]
    assert (found[0]["probability"], found[0]["weight"]) == (row["prob"][0], row["weight"][0])
    found = said("why", ids[passed], str(config))["trainings"]
    assert [(one["fate"], one["probability"]) for one in found] == [("passed over", None)]


def test_the_gate_judges_a_training_on_what_it_left_and_refuses_it_with_reasons(tmp_path: Path) -> None:
    file = configured(tmp_path, DEEP, gate="true")
    said("fit", str(file))
    with Talk(file) as talk:
        talk.stream(600, 1)
    made = said("train", str(file), status=1)
    assert (made["published"], made["cutoff"], made["seen"]) == (False, 500, 500)
    assert "examples" in made["refused"][0]  # fewer than its minimum
    with Talk(file) as talk:
        assert talk.predict(rows_of(1, 3)[0])[0]["version"].startswith("1.0.")


def test_two_rules_are_compared_on_examples_that_neither_network_has_learned(tmp_path: Path) -> None:
    file = configured(tmp_path, DEEP + 'shadow = "uniform"\n', gate="true")
    file.write_text(
        file.read_text().replace("[gate]", "[gate]\nminimum = 50\ntolerance = 10.0\ncalibration_error = 1.0")
    )
    said("fit", str(file))
    with Talk(file) as talk:
        ids = talk.stream(600, 1)
    assert said("train", str(file), "--no-publish")["version"] == "2.0.0"
    registry = Registry(tmp_path / "state", clock=lambda: 0.0)
    about = json.loads((registry.path(Version(2)) / "training.json").read_text())["selection"]
    registry.close()
    assert (about["trained"]["rule"], about["shadow"]["rule"]) == ("pps", "uniform")
    assert about["trained"]["quality"]["examples"] == about["shadow"]["quality"]["examples"] == 100
    assert about["shadow"]["effective"] == about["shadow"]["chosen"] == 125
    for name in ("trained", "shadow"):
        assert 0.2 < about[name]["quality"]["loss"] < 0.8
        assert 0.7 < about[name]["quality"]["predicted"] / about[name]["quality"]["happened"] < 1.4
    log = SelectionLog(tmp_path / "state")
    assert log.read(Version(2), shadow=True).column("rule").to_pylist() == ["uniform"] * 5
    assert [one["shadow"] for one in said("why", ids[3], str(file))["trainings"]] == [False, True]


def test_a_model_without_a_network_is_told_so(config: Path) -> None:
    text = config.read_text()
    a, b = text.index("[fixed.network]"), text.index("[[random]]")
    config.write_text(text[:a] + text[b : text.index("[deep]")])
    assert load(config).tables.fixed.network is None
    from nearline import ConfigError

    with pytest.raises(ConfigError, match=r"add \[fixed.network\]"):
        said("train", str(config))


def test_a_training_is_due_by_time_or_when_enough_examples_came(config: Path) -> None:
    state, made = config.parent / "state", time.time()
    assert not Trainings(config, state, 60.0)._due(made)
    assert Trainings(config, state, 60.0)._due(made + 61.0)
    assert not Trainings(config, state, None, 401)._due(made + 1e9)
    scheduled = Trainings(config, state, None, 400, command=[sys.executable, "-c", "pass"], look=0.05)
    assert scheduled._due(made)
    scheduled._run()  # whatever came of it: the next needs as many again
    assert not scheduled._due(made)
