"""A shock to every coefficient: the alarm is in the ledger, the model recovers, replay and restart give its bits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from nearline import Fixed, GLMix, Random, Schema
from nearline.gate import ChangeSettings, GuardSettings
from nearline.glmix import Safety
from nearline.join import Policy
from nearline.loop import audit
from nearline.loop._audit import differing
from nearline.loop._events import predictions_of
from nearline.loop._examples import LOOSENED
from nearline.loop._learner import LOOSE, Learner
from nearline.loop._settings import Recording
from nearline.loop._storage import Storage
from nearline.loop._versions import Versions
from nearline.store import OUTCOMES, Registry, Version

USERS, ROWS, SHOCK, TICKS = 60, 200, 30, 60
CHANGE = ChangeSettings(minimum=1_000, cooldown=4_000)


class World:
    """Clicks of users whose inclinations are drawn anew at tick `SHOCK`; ten of them alone come in ticks `few`."""

    def __init__(self, seed: int, few: slice = slice(0)) -> None:
        rng = np.random.default_rng(seed)
        self.user = rng.integers(0, USERS, (TICKS, ROWS))
        self.user[few] %= 10
        self.before, self.after = rng.normal(0, 1.5, (2, USERS))
        chance, self.label = rng.random((TICKS, ROWS)), np.zeros((TICKS, ROWS))
        for tick in range(TICKS):
            self.label[tick] = chance[tick] < 1 / (1 + np.exp(-self.truth(tick)))

    def truth(self, tick: int) -> np.ndarray:
        return np.asarray((self.before if tick < SHOCK else self.after)[self.user[tick]])


class Served:
    """A state directory without a service: predictions and outcomes are written, and a learner learns them."""

    def __init__(self, folder: Path, change: ChangeSettings | None = CHANGE, mode: Any = "event") -> None:
        self.folder, self.change = folder, change
        if not (folder / "registry.sqlite").exists():
            model = GLMix(Schema(label="clicked"), Fixed(), [Random("user")], mode=mode)
            model.partial_fit({"user": np.arange(USERS), "clicked": np.arange(USERS) % 2})
            registry = Registry(folder, clock=lambda: 0.0)
            registry.register(model.save(registry.stage()), Version(1), who="test", why="first")
            registry.publish(Version(1), who="test", why="first")
            registry.close()
        self.open()

    def open(self) -> None:
        self.versions = Versions(self.folder, lambda: 0.0, 5)
        entry = self.versions.pointer()
        self.storage = Storage.open(self.folder, predictions_of(self.versions.load(entry.version)), Recording())
        policy = Policy(3600.0)
        self.learner = Learner(
            self.storage, policy, Safety(), self.versions.load, GuardSettings(alpha=1e-9), change=self.change
        )
        if not self.learner.restore():
            self.learner.begin(entry.version, entry.number, 0.0)

    def close(self) -> None:
        self.versions.close()
        self.storage.close()

    def predict(self, world: World, tick: int) -> np.ndarray:
        """Serve and record a tick's rows; the scores."""
        user, log = world.user[tick], self.storage.predictions
        score = self.learner.model.decision_function({"user": user})
        first, at = log.end, np.full(ROWS, float(tick))
        names = [f"p-{first + i}" for i in range(ROWS)]
        columns = {"prediction_id": names, "time": at, "received": at, "user": user, "score": score}
        rows = pa.RecordBatch.from_arrays(
            [pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(ROWS, f.type) for f in log.schema],
            schema=log.schema,
        )
        log.append(rows)
        log.commit()
        self.outcomes(names, np.arange(first, first + ROWS), world.label[tick], tick)
        return np.asarray(score)

    def outcomes(self, names: list[str], positions: Any, label: Any, tick: int, kind: str = "outcome") -> None:
        n, log = len(names), self.storage.outcomes
        at = np.full(n, float(tick))
        columns = [names, positions, at, at, label, [kind] * n]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, OUTCOMES)]
        log.append(pa.RecordBatch.from_arrays(arrays, schema=OUTCOMES))
        log.commit()

    def run(self, world: World, ticks: range) -> list[Any]:
        scores = []
        for tick in ticks:
            scores.append(self.predict(world, tick))
            self.learner.tick(float(tick))
        return scores

    def alarms(self) -> list[dict[str, Any]]:
        log = self.storage.examples
        return [row for row in log.read(log.first).to_pylist() if row["action"] == LOOSENED]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    one = Served(tmp_path / "one")
    yield one
    one.close()


def test_the_alarm_is_a_row_of_the_ledger_with_its_reason(served: Served) -> None:
    served.run(World(0), range(TICKS))
    alarms = served.alarms()
    assert len(alarms) == 1
    row = alarms[0]
    assert SHOCK <= row["time"] < SHOCK + 10
    assert (row["prediction"], row["prediction_id"], row["label"], row["weight"]) == (-1, None, None, 1.0)
    assert "above what the model expects" in row["reason"]
    assert row["reason"] == served.learner.changed
    assert served.learner.counts[LOOSENED] == 1
    assert str(served.learner.version) == f"1.0.{TICKS * ROWS + 1}"


def test_a_shock_is_learned_faster_with_it_than_without(tmp_path: Path) -> None:
    world, excess = World(0), {}
    for name, change in (("with", CHANGE), ("without", None)):
        one = Served(tmp_path / name, change)
        scores = one.run(world, range(TICKS))
        assert len(one.alarms()) == (name == "with")
        one.close()
        loss = 0.0
        for tick in range(SHOCK + 10, SHOCK + 25):
            z, p = scores[tick], 1 / (1 + np.exp(-world.truth(tick)))
            loss += float(
                (np.logaddexp(0, z) - p * z - np.logaddexp(0, world.truth(tick)) + p * world.truth(tick)).mean()
            )
        excess[name] = loss
    assert excess["with"] < 0.5 * excess["without"]


@pytest.mark.parametrize("mode", ["event", "minibatch"])
@settings(max_examples=3, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(seed=st.integers(0, 1000), restarts=st.sets(st.integers(1, TICKS - 1), max_size=5))
def test_restarts_and_replay_come_to_the_same_bits(
    mode: str, tmp_path_factory: pytest.TempPathFactory, seed: int, restarts: set[int]
) -> None:
    world = World(seed)
    whole, broken = (Served(tmp_path_factory.mktemp(name), mode=mode) for name in ("whole", "broken"))
    whole.run(world, range(TICKS))
    for tick in range(TICKS):
        if tick in restarts:
            broken.close()
            broken.open()
        broken.run(world, range(tick, tick + 1))
    assert len(whole.alarms()) >= 1
    assert whole.alarms() == broken.alarms()
    assert differing(whole.learner.model, broken.learner.model) == 0
    assert whole.learner._teacher.pending.count == broken.learner._teacher.pending.count
    for one in (whole, broken):
        one.close()
        found = audit(one.folder)
        assert found.doubled == 0
        assert found.posteriors_differ == 0
        assert len(found.labels) == TICKS * ROWS - one.learner.counts.get("quarantined", 0)


def test_work_behind_the_last_commit_is_done_again_to_the_same_bits(served: Served, tmp_path: Path) -> None:
    """As after kill -9 between the examples and the state: at the tick that alarms, and at the one after it."""
    world = World(0)
    other = Served(tmp_path / "other")
    other.run(world, range(TICKS))
    at = int(other.alarms()[0]["time"])
    for tick in range(TICKS):
        served.predict(world, tick)
        if tick in (at, at + 1):
            commit = served.learner._commit
            served.learner._commit = lambda *_: (_ for _ in ()).throw(OSError("lost power"))  # type: ignore[method-assign]
            with pytest.raises(OSError, match="lost power"):
                served.learner.tick(float(tick))
            served.learner._commit = commit  # type: ignore[method-assign]
            assert served.learner.restore()
        served.learner.tick(float(tick))
    assert served.alarms() == other.alarms()
    assert differing(served.learner.model, other.learner.model) == 0
    other.close()


def test_who_is_not_touched_is_loosened_when_it_is(served: Served) -> None:
    world = World(0, few=slice(20, 45))
    served.run(world, range(45))
    learner, block = served.learner, served.learner.model.block("user")
    assert len(served.alarms()) == 1
    codes = served.learner.model.encoder.entity_codes("user")
    away = [codes[user] for user in range(10, USERS)]
    assert learner._teacher.pending.count == len(away)
    tight = block.cov.copy()
    with served.storage.state.snapshot() as saved:
        assert len(saved.table(LOOSE)) == 1
    served.predict(world, 45)
    learner.tick(45.0)
    prior = block.prior_arrays()[1].item()
    back = sorted({codes[user] for user in world.user[45].tolist() if user >= 10})
    assert len(back) > 40
    assert learner._teacher.pending.count == len(away) - len(back)
    still = sorted(set(away) - set(back))
    # three or four events from the prior, not those and the 70 of before
    assert (block.cov[back] > 2 * tight[back]).all()
    assert (block.cov[back] < prior).all()
    assert (block.cov[still] == tight[still]).all()


def test_a_correction_of_what_was_learned_before_moves_little(served: Served, tmp_path: Path) -> None:
    world = World(0)
    plain = Served(tmp_path / "plain", change=None)
    moves = {}
    for one in (served, plain):
        one.run(world, range(TICKS))
        block = one.learner.model.block("user")
        code = one.learner.model.encoder.entity_codes("user")[world.user[SHOCK - 1, 0]]
        position = (SHOCK - 1) * ROWS
        before = block.mean[code, 0]
        one.outcomes([f"p-{position}"], [position], [1.0 - world.label[SHOCK - 1, 0]], TICKS, kind="correct")
        one.learner.tick(float(TICKS))
        moves[one.folder.name] = block.mean[code, 0] - before
    assert np.sign(moves["one"]) == np.sign(moves["plain"]) != 0
    assert abs(moves["one"]) < 1.5 * abs(moves["plain"])
    served.close()
    assert audit(served.folder).posteriors_differ == 0
    served.open()
    plain.close()


def test_another_line_begins_without_what_was_to_be_loosened(served: Served) -> None:
    world = World(0, few=slice(20, None))
    served.run(world, range(45))
    learner = served.learner
    assert learner._teacher.pending.count > 0
    alarm, end = learner.alarms[-1], served.storage.examples.end
    learner.begin(Version(1), learner.entry, 50.0)
    assert (learner._teacher.pending.count, learner._teacher.loosened, learner.changed) == (0, (0, 0.0), "")
    assert learner.change.seen == 0
    with served.storage.state.snapshot() as saved:
        assert len(saved.table(LOOSE)) == 0
    # a version that was kept after the alarm has lived through it: what it learned before is corrected accordingly
    learner.begin(Version(1), learner.entry, 51.0, held=[(0, end)])
    assert learner._teacher.loosened == alarm
    assert learner.restore()
    assert learner._teacher.loosened == alarm
