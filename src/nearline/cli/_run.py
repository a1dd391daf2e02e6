"""`nearline run` and `nearline serve`: a state directory as an HTTP service, with and without learning."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from nearline import config as configs
from nearline.config import Running
from nearline.loop import Loop


def run(file: Path, host: str | None, port: int | None, learn: bool) -> None:
    """Serve until SIGINT or SIGTERM; then finish what is open, learn what waits, and keep a version."""
    from nearline.serve import serve

    settings = configs.load(file).running()
    settings = replace(settings, host=host or settings.host, port=settings.port if port is None else port)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    with loop_of(settings, learn) as loop:
        console.print(f"version {loop.live.scorer.version}, dashboard at http://{settings.host}:{settings.port}/")
        serve(loop, host=settings.host, port=settings.port, tokens=settings.tokens)


def loop_of(settings: Running, learn: bool = True) -> Loop:
    """The loop that a configuration describes, not yet started."""
    return Loop(
        settings.folder, settings.policy, pace=settings.pace, recording=settings.recording, safety=settings.safety,
        guard=settings.guard, limits=settings.limits, clock=time.time, learn=learn,
    )  # fmt: skip
