"""kill -9 at random moments under load: nothing acknowledged is lost or learned twice, and no bit differs."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import crash

KILLS = 20
SWAPS = 6


def test_nothing_is_lost_or_learned_twice_over_twenty_kills(tmp_path: Path) -> None:
    found = crash.run(tmp_path, kills=KILLS, members=200, seed=3)
    assert (found["lost"], found["doubled"], found["differ"]) == (0, 0, 0)
    assert found["predictions"] > 20 * KILLS
    assert found["outcomes"] > 15 * KILLS


def test_nothing_is_lost_or_learned_twice_when_it_is_killed_around_swaps(tmp_path: Path) -> None:
    found = crash.run(tmp_path, kills=SWAPS, members=200, seed=4, refits=True)
    assert (found["lost"], found["doubled"], found["differ"]) == (0, 0, 0)
    assert found["outcomes"] > 15 * SWAPS
    assert found["swaps"] >= 1
