"""The posteriors are those that the ledger makes of the base, bit for bit, whatever happened to the service."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.loop.parts import rows, same_model, trained
from tests.loop.running import Clock, happened, opened, predict, published, turn

from nearline.glmix import Safety
from nearline.loop import audit, replay
from nearline.loop._audit import differing
from nearline.loop._loop import Loop

SAFETY = Safety(margin=20.0)


class Service:
    """A loop that a test stops, kills and starts again."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.folder, self.labels = Clock(), folder, dict[str, float]()
        published(folder, clock=self.clock)
        self.loop: Loop = opened(folder, self.clock, safety=SAFETY)

    def learn(self, members: list[int], labels: list[float], seed: int = 0, price: float | None = None) -> list[str]:
        given = rows(members, seed)
        if price is not None:
            given["price"][0] = price
        ids = predict(self.loop, given)
        self.say(ids, labels)
        self.labels |= dict(zip(ids, labels))
        if price is not None:
            del self.labels[ids[0]]
        return ids

    def say(self, ids: list[str], labels: list[float] | None, kind: str = "outcome") -> None:
        happened(self.loop, ids, labels, kind)
        turn(self.loop)
        self.clock.now += 1.0
        if kind == "correct" and labels is not None:
            self.labels |= dict(zip(ids, labels))
        elif kind == "retract":
            for name in ids:
                self.labels.pop(name, None)

    def stop(self) -> None:
        if self.loop.error != "stopping":
            self.loop.close()

    def again(self, *, killed: bool) -> None:
        """Start after an orderly stop, or from what is on disk at this moment."""
        if killed:
            copy = self.folder.parent / f"{self.folder.name}-"
            shutil.copytree(self.folder, copy)
            self.loop.close()
            self.folder = copy
        else:
            self.loop.close()
        self.loop = opened(self.folder, self.clock, safety=SAFETY)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path / "state")
    yield made
    made.stop()


def clean(service: Service) -> None:
    service.stop()
    found = audit(service.folder, SAFETY)
    assert (found.doubled, found.posteriors_differ) == (0, 0)
    assert same_model(replay(service.folder, SAFETY), found.replayed)
    assert same_model(found.committed, service.loop.learner.model)


@pytest.mark.parametrize("killed", [False, True])
def test_corrections_retractions_quarantine_and_restarts(service: Service, killed: bool) -> None:
    first = service.learn([1, 2, 3], [1.0, 0.0, 1.0])
    service.learn([4, 5], [1.0, 0.0], 1, price=1e9)
    service.again(killed=killed)
    service.say(first[:1], [0.0], "correct")
    service.say(first[1:2], None, "retract")
    service.again(killed=killed)
    service.say(first[1:2], [1.0], "correct")
    service.learn([30, 31], [1.0, 1.0], 2)
    labels = dict(service.labels)
    clean(service)
    assert audit(service.folder, SAFETY).labels == labels


def test_roll_backs_and_a_version_published_again(service: Service) -> None:
    ids = service.learn([1, 2, 3], [1.0, 0.0, 1.0])
    service.loop.rollback("1.0.0", "look", "ann")
    service.learn([4, 5], [1.0, 1.0], 1)
    service.say(ids[:1], [0.0], "correct")  # the base knows nothing of it: it is learned
    service.loop.publish("1.0.3", "back", "ann")
    service.labels = dict(zip(ids, [1.0, 0.0, 1.0]))
    service.say(ids[1:], [1.0, 0.0], "correct")  # this one holds them: they are undone
    service.again(killed=True)
    service.learn([7], [1.0], 2)
    labels = dict(service.labels)
    clean(service)
    assert audit(service.folder, SAFETY).labels == labels


def test_ticks_that_were_refused_for_a_reason_nobody_foresaw_stay_refused(service: Service) -> None:
    service.learn([1], [1.0])
    ids = predict(service.loop, rows([2, 3]))
    service.loop._quarantine = "a bug"
    service.say(ids, [1.0, 0.0])
    service.learn([4], [0.0], 3)
    assert service.loop.learner.counts["quarantined"] == 2
    clean(service)


def test_an_entity_that_is_off_by_a_bit_is_counted() -> None:
    one, other = trained(), trained()
    assert differing(one, other) == 0
    block = other.block("member")
    block.mean[3, 0] = np.nextafter(block.mean[3, 0], 9.0)
    assert differing(one, other) == 1
    block.counts[5] += 1
    assert differing(one, other) == 2
