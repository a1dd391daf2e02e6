"""The same events, told to services that differ only in when a fit was published; and fits to publish."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from tests.loop.parts import CALM, rows, same_model, trained
from tests.loop.running import Clock, happened, opened, predict, published, turn

from nearline import GLMix
from nearline.loop import Loop, Pace, audit, replay
from nearline.store import Registry, Version

SLOW = Pace(tick=0.002, snapshot=600.0, follow=0.1, lag=3)
"""Learns three examples anew per turn."""


def other(**options: Any) -> GLMix:
    """A fit that differs from the first one in every number."""
    model = trained(**options)
    rng = np.random.default_rng(5)
    model.partial_fit({
        "member": rng.integers(0, 10, 50), "ad": [f"ad{i}" for i in rng.integers(2, 9, 50)],
        "price": rng.normal(10, 5, 50), "clicked": rng.integers(0, 2, 50), "when": np.arange(50.0),
    })  # fmt: skip
    return model


def fit(
    folder: Path, clock: Clock, version: str, cutoff: int, model: GLMix | None = None, *, publish: bool = True
) -> None:
    """Register a fit that has consumed the examples before its cut-off, as `nearline fit --on ledger` does."""
    registry = Registry(folder, clock=clock)
    staged = (model or other()).save(registry.stage())
    number = Version.parse(version)
    registry.register(staged, number, who="fit", why="test", positions={"start": 0, "examples": cutoff})
    if publish:
        registry.publish(number, who="fit", why="test")
    registry.close()


class Story:
    """The same events, told to services that differ only in when a fit was published."""

    def __init__(self, folder: Path, model: GLMix | None = None, **options: Any) -> None:
        self.clock, self.folder, self.options = Clock(), folder, options
        published(folder, model, clock=self.clock)
        self.ids: list[str] = []
        self.rng = np.random.default_rng(3)
        self.loop: Loop = opened(folder, self.clock, **options)

    def learn(self, ticks: int = 1) -> None:
        """Predictions, and outcomes of some of them a tick later; corrections and retractions of older ones."""
        for _ in range(ticks):
            rng = self.rng
            ids = predict(self.loop, rows(rng.integers(0, 14, 4).tolist(), int(rng.integers(1_000))))
            happened(self.loop, ids[:3], rng.integers(0, 2, 3).astype(float))
            if len(self.ids) > 8:
                happened(self.loop, self.ids[-6:-5], [float(rng.integers(2))], "correct")
                happened(self.loop, self.ids[-8:-7], None, "retract")
            self.ids += ids[:3]
            self.clock.now += 20.0
            turn(self.loop)

    def again(self, *, killed: bool = False) -> None:
        """Start anew after an orderly stop, or from what is on disk at this moment."""
        if killed:
            copy = self.folder.parent / f"{self.folder.name}-"
            shutil.copytree(self.folder, copy)
            self.loop.close()
            self.folder = copy
        else:
            self.loop.close()
        self.loop = opened(self.folder, self.clock, **self.options)

    @property
    def model(self) -> GLMix:
        return self.loop.learner.model

    @property
    def served(self) -> str:
        return self.loop.live.scorer.version

    def settle(self) -> None:
        """Turns until nothing catches up."""
        for _ in range(200):
            self.clock.now += 0.2
            turn(self.loop)
            if self.loop.handover.coming is None:
                return
        raise AssertionError("it never caught up")


def clean(it: Story) -> None:
    it.loop.close()
    found = audit(it.folder, CALM)
    assert (found.doubled, found.posteriors_differ) == (0, 0)
    assert same_model(replay(it.folder, CALM), found.committed)
    assert same_model(found.committed, it.model)
