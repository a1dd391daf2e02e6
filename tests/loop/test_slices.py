"""Rules that go by slices and leverage in `nearline train`: what they read, what comes of it, that logs repeat it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.loop.deep_parts import SAFETY, Talk, configured, model_of, said

pytest.importorskip("torch", reason="nearline.deep needs torch: pip install 'nearline[deep]'")

from nearline import DataError
from nearline.gate import HoldOut
from nearline.loop import History, Offered, SelectionLog, audit
from nearline.loop._offered import PRICED, codes
from nearline.select import replay
from nearline.store import Version

RULE = (
    '{ rule = "pps", floor = 0.1, trust = "cells", leverage = true, sampler = "cube", order = "slice", '
    'balance = ["sketch", "loss", "slice_error"] }'
)
DEEP = (
    f'\n[deep]\nselect = {RULE}\nslices = "member"\nleverage = ["device"]\nshadow = {{ rule = "pps", floor = 0.1 }}\n'
    "budget = 0.25\nwindow = 100\nseed = 7\n"
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration whose version 1.0.0 was live, with 400 examples after it; and 2.0.0 was trained on them."""
    file = configured(tmp_path_factory.mktemp("slices"), DEEP)
    said("fit", str(file))
    with Talk(file) as talk:
        talk.stream(400, 1)
    made = said("train", str(file))
    assert (made["version"], made["published"], made["seen"], made["chosen"]) == ("2.0.0", True, 400, 100)
    return file


def offered(file: Path, start: int = 0, cutoff: int = 400, **given: Any) -> Offered:
    model = model_of(file, "1.0.0")
    with History(file.parent / "state", model) as history:
        found = Offered(
            history, model, start, cutoff, whole=1, sketch=16, slices="member", leverage=("device",), **given
        )
        found.rows = found.load(np.arange(len(found)))  # type: ignore[attr-defined]
    return found


def log_of(file: Path, whole: int = 2, shadow: bool = False) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = SelectionLog(file.parent / "state").read(Version(whole), shadow).to_pylist()
    return found


def test_two_columns_more_are_read_of_all_rows_and_features_of_the_chosen_alone(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow, taken = History.narrow, History.taken
    asked: list[str] = []
    loaded: list[int] = []

    def asking(self: History, schema: Any, more: Any, predictions: Any) -> Any:
        asked.extend([*schema.names, *more])
        return narrow(self, schema, more, predictions)

    def loading(self: History, predictions: Any) -> Any:
        loaded.extend(predictions.tolist())
        return taken(self, predictions)

    monkeypatch.setattr(History, "narrow", asking)
    monkeypatch.setattr(History, "taken", loading)
    found = offered(config)
    assert asked == [*PRICED.names, "network_sketch_16", "member", "device"]
    assert loaded == found.prediction.tolist()  # by `offered` itself, below: nothing before
    table = found.leverage(np.array([3, 5]))
    assert table is not None
    assert table.to_pydict() == {"device": [found.rows["device"][k].as_py() for k in (3, 5)]}  # type: ignore[attr-defined]


def test_slices_are_those_of_the_column_and_in_the_order_of_its_values(config: Path) -> None:
    whole, part = offered(config), offered(config, 200)
    member = whole.rows["member"].to_numpy()  # type: ignore[attr-defined]
    assert np.array_equal(whole.scores.slice, np.unique(member, return_inverse=True)[1])
    order = [np.argsort(one.scores.slice[-100:], kind="stable") for one in (whole, part)]
    assert np.array_equal(*order)


def test_one_column_may_hold_out_and_be_the_slice(config: Path) -> None:
    hold, plain = HoldOut(("member",), 0.3), offered(config)
    found = offered(config, holdout=hold)
    assert np.array_equal(found.scores.held, hold.of(found.rows))  # type: ignore[attr-defined]
    assert np.array_equal(found.scores.slice, plain.scores.slice)


def test_the_log_makes_the_same_choices_with_the_leverages_that_it_keeps(config: Path) -> None:
    found, log = offered(config), log_of(config)
    for row, (_, scores) in zip(log, found.windows(100), strict=True):
        assert scores.leverage is None
        again = replay(row, scores)
        assert again.prob is not None
        assert (again.index.tolist(), again.prob.tolist()) == (row["index"], row["prob"])
    # They are the trainer's own, as each window found it.
    twin = model_of(config, "1.0.0").folded()
    for row, (rows, _) in zip(log, found.windows(100), strict=True):
        assert row["leverage"] == twin.leverage(found.leverage(rows), ["device"]).tolist()
        part = found.rows.take(pa.array(rows[row["index"]]))  # type: ignore[attr-defined]
        twin.partial_fit(part, weight=row["weight"])
    assert len({tuple(row["leverage"][:1]) for row in log}) == 4
    assert [row["leverage"] for row in log_of(config, shadow=True)] == [None] * 4


def test_errors_of_every_slice_add_up_better_than_without(config: Path) -> None:
    found = offered(config)

    def gap(log: list[dict[str, Any]]) -> float:
        total = 0.0
        for row, (_, scores) in zip(log, found.windows(100), strict=True):
            errors = np.bincount(scores.slice, scores.error, 12) / row["rows"]
            kept = scores.take(row["index"])
            total += np.abs(np.bincount(kept.slice, kept.error * row["weight"], 12) / row["b"] - errors).sum()
        return total

    assert gap(log_of(config)) < 0.6 * gap(log_of(config, shadow=True))


def test_the_same_ledger_gives_the_same_network_and_the_next_goes_on_from_its_counts(config: Path) -> None:
    once = model_of(config, "2.0.0")
    with Talk(config) as talk:
        assert talk.ask("POST", "/versions/rollback", json={"to": "1.0.400", "why": "again"})["version"] == "1.0.400"
    assert said("train", str(config))["version"] == "3.0.0"
    assert model_of(config, "3.0.0").identity == once.identity
    with Talk(config) as talk:
        talk.turn()
        ids = talk.stream(100, 2)
    assert said("train", str(config))["version"] == "4.0.0"
    (row,) = log_of(config, 4)
    last = offered(config, 400, 10_000)
    known = once.network.leverage(last.leverage(np.arange(len(last))), ["device"])
    assert (row["window"], row["rows"]) == (4, len(last))
    assert row["leverage"] == known.tolist()
    found = audit(config.parent / "state", SAFETY)
    assert (found.doubled, found.posteriors_differ) == (0, 0)
    assert set(ids) <= set(found.labels)


def test_codes_are_ranks_and_what_has_several_values_is_no_slice() -> None:
    assert codes(pa.chunked_array([[7, 3], [None, 3]]), "member").tolist() == [1, 0, -1, 0]
    assert codes(pa.chunked_array([pa.array([], pa.string())]), "member").tolist() == []
    with pytest.raises(DataError, match=r"'tags'.*several values.*\[deep\] slices"):
        codes(pa.chunked_array([[["a", "b"]]]), "tags")
