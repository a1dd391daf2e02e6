"""The gradient sketch in the ledger: what it holds, that rules balance it, and rows that have none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.loop.deep_parts import SAFETY, Talk, configured, model_of, said

pytest.importorskip("torch", reason="nearline.deep needs torch: pip install 'nearline[deep]'")

from nearline import NearlineWarning
from nearline.config import load
from nearline.loop import History, Offered, SelectionLog, audit
from nearline.select import replay
from nearline.store import Registry, Version

PLAIN = '\n[deep]\nselect = "pps"\nbudget = 0.25\nwindow = 100\nseed = 7\n'
BEST = '{ rule = "pps", floor = 0.1, trust = "cells", sampler = "cube", balance = ["sketch", "loss"] }'
BALANCED = PLAIN.replace('"pps"', BEST)


def served(folder: Path, deep: str, n: int = 400) -> Path:
    """A configuration whose version 1.0.0 is live, with n examples after it."""
    file = configured(folder, deep)
    said("fit", str(file))
    with Talk(file) as talk:
        talk.stream(n, 1)
    return file


def offered(file: Path, sketch: int, cutoff: int = 400, **given: object) -> Offered:
    model = model_of(file, "1.0.0")
    with History(file.parent / "state", model) as history:
        found = Offered(history, model, 0, cutoff, whole=1, sketch=sketch, **given)  # type: ignore[arg-type]
        found.rows = found.load(np.arange(cutoff))  # type: ignore[attr-defined]
    return found


def test_what_is_recorded_is_the_sketch_of_a_forward_pass_that_is_not_made_again(tmp_path: Path) -> None:
    file = served(tmp_path, BALANCED)
    model, found = model_of(file, "1.0.0"), offered(file, 16)
    (_, scores), *_ = found.windows(400)
    label = found.label
    recorded = model.network.information(found.rows, sketch=16)  # type: ignore[attr-defined]
    inputs = recorded.codes * recorded.scale.astype(float)[:, None]
    p = 1 / (1 + np.exp(-model.log_odds(recorded.logit)))
    # Requests of 50 rows and one pass over 400 differ by rounding, in which a byte may fall to either side.
    step = recorded.scale.astype(float)[:, None]
    assert (np.abs(scores.sketch - (p - label)[:, None] * inputs) <= 1.01 * step).all()
    assert (np.mean(np.abs(scores.sketch - (p - label)[:, None] * inputs) > 1e-3 * step)) < 0.01
    # (1/K) a_i . a_j estimates g_i . g_j; of a row with itself that is the square of its score.
    ratio = np.mean(scores.sketch**2, axis=1) / scores.score**2
    assert 0.5 < np.mean(ratio) < 2.0
    found_audit = audit(tmp_path / "state", SAFETY)
    assert (found_audit.posteriors_differ, found_audit.doubled, len(found_audit.labels)) == (0, 0, 400)


def test_it_costs_its_bytes_and_is_a_column_of_the_ledger(tmp_path: Path) -> None:
    file = served(tmp_path, BALANCED + "\n[ledger]\nsegment_rows = 60\n", 150)
    (_, before), *_ = offered(file, 16, 150).windows(150)
    with Talk(file) as talk:
        log = talk.loop.storage.predictions
        assert log.schema.field("network_sketch_16").type == pa.binary(18)
        column = log.read(0).column("network_sketch_16")
        assert (len(column), column.null_count) == (150, 0)
        log.seal()
    assert list((tmp_path / "state" / "ledger" / "predictions").glob("*.parquet"))
    (_, after), *_ = offered(file, 16, 150).windows(150)
    assert np.array_equal(before.sketch, after.sketch)


def test_draws_balance_the_sketch_and_the_log_repeats_them(tmp_path: Path) -> None:
    file = served(tmp_path, BALANCED)
    made = said("train", str(file))
    assert (made["version"], made["seen"], made["chosen"]) == ("2.0.0", 400, 100)
    log = SelectionLog(tmp_path / "state").read(Version(2)).to_pylist()
    assert [row["unsketched"] for row in log] == [0] * 4
    assert json.loads(log[0]["settings"])["rule"]["balance"] == ["sketch", "loss"]
    windows = [scores for _, scores in offered(file, 16).windows(100)]
    for row, scores in zip(log, windows):
        chosen = replay(row, scores)
        assert chosen.prob is not None
        assert chosen.prob.tolist() == row["prob"]

    def gap(row: dict[str, object], scores: object) -> float:
        sketch, weight = scores.sketch, np.array(row["weight"])  # type: ignore[attr-defined]
        estimate = (weight[:, None] * sketch[row["index"]]).mean(axis=0)
        return float(np.linalg.norm(estimate - sketch.mean(axis=0)))

    file.write_text(file.read_text().replace(BEST, '{ rule = "pps", floor = 0.1, trust = "cells" }'))
    with Talk(file) as talk:
        talk.ask("POST", "/versions/rollback", json={"to": "1.0.400", "why": "another rule"})
    assert said("train", str(file))["version"] == "3.0.0"
    plain = SelectionLog(tmp_path / "state").read(Version(3)).to_pylist()
    balanced = np.mean([gap(row, scores) for row, scores in zip(log, windows)])
    assert balanced < 0.6 * np.mean([gap(row, scores) for row, scores in zip(plain, windows)])


def test_rows_recorded_before_are_kept_and_stand_at_the_mean_with_a_warning(tmp_path: Path) -> None:
    file = served(tmp_path, PLAIN, 200)
    file.write_text(file.read_text().replace('select = "pps"', f"select = {BEST}"))
    with Talk(file) as talk:
        ids = talk.stream(200, 2)
    (_, scores), *_ = offered(file, 16).windows(400)
    bare = np.isnan(scores.sketch).all(axis=1)
    assert (bare[:200].all(), bare[200:].any(), np.isfinite(scores.score).all()) == (True, False, True)
    with pytest.warns(NearlineWarning, match=r"200 of 400 examples have no gradient sketch of 16 numbers"):
        assert said("train", str(file))["chosen"] == 100
    log = SelectionLog(tmp_path / "state").read(Version(2))
    assert log.column("unsketched").to_pylist() == [100, 100, 0, 0]
    # Another length is another column: what was recorded stays.
    file.write_text(file.read_text().replace("seed = 7", "seed = 7\nsketch = 4"))
    assert load(file).running().recording.sketch == 4
    with Talk(file) as talk:
        talk.stream(50, 3)
        names = talk.loop.storage.predictions.schema.names
        assert "network_sketch_4" in names
        assert "network_sketch_16" not in names
    (_, scores), *_ = offered(file, 16, 450).windows(450)
    assert np.isfinite(scores.sketch).all(axis=1).tolist() == [False] * 200 + [True] * 200 + [False] * 50
    assert set(ids) <= set(audit(tmp_path / "state", SAFETY).labels)


def test_sketches_of_a_network_of_another_fit_count_as_none(tmp_path: Path) -> None:
    file = served(tmp_path, BALANCED, 100)
    for line, known in (({1}, True), ({2, 3}, False), (None, True)):
        (_, scores), *_ = offered(file, 16, 100, line=line).windows(100)
        assert np.isfinite(scores.sketch).all() == known


def test_both_rules_have_parameters_and_are_shown_with_them(tmp_path: Path) -> None:
    shadow = '{ rule = "pps", floor = 0.3 }'
    file = served(tmp_path, BALANCED + f"shadow = {shadow}\n")
    said("train", str(file))
    registry = Registry(tmp_path / "state", clock=lambda: 0.0)
    about = json.loads((registry.path(Version(2)) / "training.json").read_text())["selection"]
    registry.close()
    best = 'pps(floor=0.1, sampler="cube", balance=["sketch", "loss"], trust="cells")'
    assert (about["trained"]["setting"], about["shadow"]["setting"]) == (best, "pps(floor=0.3)")
    with Talk(file) as talk:
        talk.turn()
        rules = talk.ask("GET", "/api/status")["selection"]["rules"]
        assert [one["setting"] for one in rules] == [best, "pps(floor=0.3)"]
        name = talk.loop.storage.predictions.read(0, 1).column("prediction_id")[0].as_py()
    found = said("why", name, str(file))["trainings"]
    assert [(one["rule"], one["setting"]) for one in found] == [("pps", best), ("pps", "pps(floor=0.3)")]
