"""Both experiments run to their end at `--quick` and print their bars as the last line."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEEDED = {
    "lambda_learner": {
        "lift_captured_simulation",
        "lift_captured_ml100k_movie",
        "drift_gain_over_refit",
        "time_ratio_10",
    },
    "incremental_recsys": {"gain_captured", "speedup_last_slice", "gain_over_warm_start", "gain_over_window"},
    "gdmix_ladder": {"max_abs_gap_to_published", "auc_learned_priors"},
    "deep_ladder": {"auc_network", "auc_users", "auc_users_movies", "auc_learned_priors"},
    "deep_loop": {"excess_vs_uniform", "excess_vs_uniform_served", "gain_kept", "calibration_worst"},
    "tune": {"gap_to_best_search"},
}


TUNED = ("movielens-1m", "bank-marketing", "elec2")


def _movielens() -> bool:
    folder = Path(os.environ.get("NEARLINE_DATA", "nowhere"))
    return any((folder / name).is_dir() for name in ("movielens-100k", "ml-100k"))


@pytest.mark.skipif(not _movielens(), reason="needs MovieLens-100k where NEARLINE_DATA points")
@pytest.mark.parametrize("name", NEEDED)
def test_a_script_ends_with_its_bars(name: str) -> None:
    if name.startswith("deep"):
        pytest.importorskip("torch", reason="torch is not installed: pip install 'nearline[deep]'")
    wanted = {"tune": TUNED, "incremental_recsys": TUNED[:2], "deep_loop": TUNED[:1]}.get(name, ())
    if not all((Path(os.environ["NEARLINE_DATA"]) / part).is_dir() for part in wanted):
        pytest.skip(f"needs {', '.join(wanted)} where NEARLINE_DATA points")
    page = (ROOT / "docs/results.md").read_bytes()
    command = [sys.executable, str(ROOT / f"experiments/{name}.py"), "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    bars = {bar["name"]: bar for bar in json.loads(done.stdout.splitlines()[-1])["bars"]}
    assert set(bars) >= NEEDED[name]
    for bar in bars.values():
        assert math.isfinite(bar["value"])
        assert isinstance(bar["pass"], bool)
    assert (ROOT / "docs/results.md").read_bytes() == page
    _sane(name, {key: bar["value"] for key, bar in bars.items()})


def _sane(name: str, values: dict[str, float]) -> None:
    """A tenth of the data proves no bar, but the orders of magnitude are there."""
    if name == "lambda_learner":
        assert values["lift_captured_simulation"] > 0.95
        assert values["lift_captured_ml100k_movie"] > 0.95
    elif name == "deep_ladder":
        assert values["auc_learned_priors"] > 0.55
    elif name == "deep_loop":
        assert values["calibration_worst"] < 0.1
        assert values["backwards_vs_full"] == pytest.approx(0.1)
    elif name == "tune":
        assert values["gap_to_best_search"] < 0.05
    elif name == "incremental_recsys":
        assert values["gain_captured"] > 0.5
        assert values["speedup_last_slice"] > 0.5
    else:
        assert values["max_abs_gap_to_published"] < 0.1
        assert values["auc_learned_priors"] > values["auc_users_movies"]
