"""A search is reproducible, begins with what is known, repeats nothing, and says what it is worth."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.tune.streams import QUICK, events, model

from nearline import ConfigError, StateError
from nearline.tune import Tuned, tune
from nearline.tune._objective import Objective, learn, rungs
from nearline.tune._space import space_of


def search(trials: int = 12, table: Any = None, **options: Any) -> Tuned:
    return tune(model(), events() if table is None else table, trials=trials, priors=QUICK, **options)


def tried(found: Tuned) -> list[tuple[Any, float, float]]:
    return [(trial.settings, trial.loss, trial.share) for trial in found.trials]


def test_the_same_seed_gives_the_same_search_and_another_seed_another() -> None:
    one, two, other = search(seed=3), search(seed=3), search(seed=4)
    assert tried(one) == tried(two)
    assert one.gap == two.gap
    assert tried(one) != tried(other)


def test_trial_0_are_the_learned_defaults_and_the_best_is_no_worse() -> None:
    found = search(24, pruning="none")
    assert found.trials[0].source == "defaults"
    assert found.space.changes(found.trials[0].settings) == {}
    assert found.best.loss == min(trial.loss for trial in found.trials)
    # These users drift and nothing was learned of it: noise has to win, also where it was not searched.
    assert found.worth_it
    assert found.gap.low > 0
    assert found.recommended == found.best.settings
    assert found.changes
    assert sum(found.importance.values()) == pytest.approx(1.0)


def test_defaults_are_recommended_where_the_search_found_nothing_better() -> None:
    found = search(1)
    assert found.best is found.defaults
    assert not found.worth_it
    assert found.recommended == found.space.defaults()
    assert (found.gap.estimate, found.importance, found.changed()) == (0.0, {}, [])


@pytest.mark.parametrize("pruning", ["halving", "hyperband"])
def test_pruned_trials_stop_at_a_rung_and_never_win(pruning: Any) -> None:
    found = search(24, pruning=pruning)
    shares = {trial.share for trial in found.trials}
    assert shares <= {1 / 9, 3 / 9, 1.0}
    assert len(shares) > 1
    assert found.best.complete
    assert all(trial.complete for trial in search(6, pruning="none").trials)


def test_a_pruned_trial_has_the_loss_of_its_prefix() -> None:
    scratch = model()
    design, _ = scratch.design(events(), learn=True)
    learned = learn(scratch, design, ("full",), QUICK)
    space = space_of(scratch.blocks, 1e6, ("full",), (1,))
    objective = Objective(scratch, space, learned, 1)
    whole = objective.losses(space.defaults(), design)
    told: list[tuple[int, float]] = []
    assert objective.losses(space.defaults(), design, lambda *at: told.append(at) or len(told) == 2) is None
    assert whole is not None
    assert [units for units, _ in told] == [1, 3]
    assert told[1][1] == pytest.approx(whole[: len(whole) // 3].mean(), rel=1e-12)


def test_rungs_end_where_updates_end() -> None:
    assert rungs(np.array([40, 80, 90]), several=True) == [(1, 40), (9, 90)]
    assert rungs(np.array([90]), several=True) == [(1, 90)]
    assert rungs(np.array([5, 90]), several=False) == [(1, 90)]


def test_a_search_of_the_same_rows_goes_on_and_repeats_nothing(tmp_path: Path) -> None:
    first = search(8, folder=tmp_path)
    second = search(8, folder=tmp_path)
    assert second.reused == 8
    assert tried(second)[:8] == tried(first)
    keys = [tuple(sorted(trial.settings.items())) for trial in second.trials]
    assert len(set(keys)) == len(keys) == 16
    assert [trial.source for trial in second.trials].count("defaults") == 1


def test_newer_rows_begin_with_the_best_of_earlier_searches(tmp_path: Path) -> None:
    table = events(2_000)
    first = search(24, {name: column[:1_500] for name, column in table.items()}, folder=tmp_path, pruning="none")
    ranked = sorted((t for t in first.trials if t.loss < first.defaults.loss), key=lambda trial: trial.loss)
    second = search(10, table, folder=tmp_path)
    assert second.reused == 0
    sources = [trial.source for trial in second.trials]
    assert sources == ["defaults", *["earlier"] * 5, *["search"] * 4]
    assert [trial.settings for trial in second.trials[1:6]] == [trial.settings for trial in ranked[:5]]


def test_intervals_are_searched_where_there_are_several() -> None:
    found = search(8, every=(1, "1h"), structures=("full",))
    assert {axis.name for axis in found.space.axes} >= {"every"}
    assert found.defaults.settings["every"] == 1
    assert "structure" not in found.defaults.settings


def test_minibatch_models_are_tuned_at_their_own_pace() -> None:
    found = tune(model("minibatch"), events(600), trials=3, priors=QUICK)
    assert len(found.trials) == 3


def test_the_model_is_left_with_the_recommended_priors_and_no_memory() -> None:
    scratch = model()
    found = tune(scratch, events(), trials=12, priors=QUICK, pruning="none")
    block = scratch.block("user")
    assert found.worth_it
    assert (block.belief.forgetting.half_life or np.inf) == found.recommended["user: half_life"]
    assert not block.counts[: block.entities].any()


def test_bad_calls_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"tune\(trials=0\)"):
        search(0)
    with pytest.raises(ConfigError, match=r"tune\(share=1.0\) of 1500 rows leaves none"):
        search(share=1.0)
    with pytest.raises(ConfigError, match="'halving', 'hyperband' or 'none', got 'asha'"):
        search(pruning="asha")
    table = events()
    table["t"] = table["t"][::-1]
    with pytest.raises(ConfigError, match="rows in time order"):
        search(table=table)


def test_without_optuna_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'nearline\[tune\]'"):
        search(1)


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    (tmp_path / "trials.jsonl").write_text("not json\n" * 2)
    with pytest.raises(StateError, match=r"trials\.jsonl"):
        search(1, folder=tmp_path)
