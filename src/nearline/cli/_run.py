"""`nearline run` and `nearline serve`: a state directory as an HTTP service, with and without learning."""

from __future__ import annotations

import logging
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

import nearline
from nearline import config as configs
from nearline.config import Running
from nearline.loop import Loop

_logger = logging.getLogger("nearline")
SWITCH_SECONDS = 0.0005
"""How soon a thread lets another run: the learner must not hold up answers for Python's default of 5 ms."""


def run(file: Path, host: str | None, port: int | None, learn: bool) -> None:
    """Serve until SIGINT or SIGTERM; then finish what is open, learn what waits, and keep a version."""
    from nearline.serve import App, Tokens, bound, server

    without_pandas()
    settings = configs.load(file).running()
    settings = replace(settings, host=host or settings.host, port=settings.port if port is None else port)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    sys.setswitchinterval(SWITCH_SECONDS)
    app_tokens = Tokens.read(settings.tokens)
    listening = bound(settings.host, settings.port)
    try:
        with loop_of(settings, learn) as loop:
            app = App(loop, tokens=app_tokens, version=nearline.__version__)
            serving = server(app, host=settings.host, port=settings.port)
            address = f"http://{settings.host}:{listening.getsockname()[1]}/"
            _logger.info("version %s is served; dashboard at %s", loop.live.scorer.version, address)
            # uvicorn raises the signal that stopped it once more when it is done: it must not end the process before
            # what waits was learned.
            for signum in (signal.SIGINT, signal.SIGTERM):
                signal.signal(signum, lambda *_: None)
            serving.run(sockets=[listening])
    finally:
        listening.close()


class _WithoutPandas:
    """Found first by the import system: there is no pandas."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def without_pandas() -> None:
    """Tell pyarrow that there is no pandas: else its first conversion imports it, a third of a second for nothing."""
    sys.meta_path.insert(0, _WithoutPandas())
    try:
        pa.array([0])  # pyarrow looks once and remembers
    finally:
        sys.meta_path.pop(0)


def loop_of(settings: Running, learn: bool = True) -> Loop:
    """The loop that a configuration describes, not yet started."""
    return Loop(
        settings.folder, settings.policy, pace=settings.pace, recording=settings.recording, safety=settings.safety,
        guard=settings.guard, limits=settings.limits, clock=time.time, learn=learn,
    )  # fmt: skip
