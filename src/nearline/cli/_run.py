"""`nearline run` and `nearline serve`: a state directory as an HTTP service, with and without learning."""

from __future__ import annotations

import fcntl
import importlib
import logging
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

import nearline
from nearline import config as configs
from nearline._errors import StateError
from nearline.cli._schedule import Refits, Trainings
from nearline.config import Config, Running
from nearline.loop import Loop

_logger = logging.getLogger("nearline")
SWITCH_SECONDS = 0.0005
"""How soon a thread lets another run: the learner must not hold up answers for Python's default of 5 ms."""


def run(file: Path, host: str | None, port: int | None, learn: bool) -> None:
    """Serve until SIGINT or SIGTERM; then finish what is open, learn what waits, and keep a version."""
    from nearline.serve import App, Tokens, bound, server

    lean()
    config = configs.load(file)
    settings = config.running()
    settings = replace(settings, host=host or settings.host, port=settings.port if port is None else port)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    sys.setswitchinterval(SWITCH_SECONDS)
    # Arrow's own pool hands memory back at once; the recorder would have every buffer zeroed by the kernel again.
    pa.set_memory_pool(pa.system_memory_pool())
    if not (settings.folder / "registry.sqlite").exists():
        raise StateError(f"{settings.folder} has no published version; make one with: nearline fit {file}")
    require_free(settings.folder)
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
            with ExitStack() as scheduled:
                for kind in _scheduled(config, file, settings.folder) if learn else ():
                    scheduled.enter_context(kind)
                serving.run(sockets=[listening])
            _logger.info("stopping: what waits is learned, and a version kept")
        _logger.info("stopped; version %s is kept", loop.live.scorer.version)
    finally:
        listening.close()


def _scheduled(config: Config, file: Path, folder: Path) -> list[Refits]:
    """What is started beside the service every so often."""
    found, every, examples = list[Refits](), config.train_every(), config.tables.deep.examples
    if (refit := config.refit_every()) is not None:
        found.append(Refits(file, folder, refit))
    if every is not None or examples is not None:
        found.append(Trainings(file, folder, every, examples))
    return found


class _Absent:
    """Found first by the import system: there is no such package."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == self.package:
            raise ModuleNotFoundError(name)


@contextmanager
def _absent(package: str) -> Iterator[None]:
    finder = _Absent(package)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def lean() -> None:
    """Keep out what a service never uses and its libraries import if it is there: half a second before it is ready.

    pyarrow looks for pandas at its first conversion and numba for the BLAS of scipy, which no kernel here calls. Each
    looks once and remembers; both packages can be imported afterwards.
    """
    with _absent("pandas"):
        pa.array([0])
    with _absent("scipy.linalg"):
        importlib.import_module("numba.np.arraymath")


def require_free(folder: Path) -> None:
    """Raise StateError where another process serves the directory, before anything is touched."""
    lock = folder / "ledger" / "predictions" / "lock"
    if lock.exists():
        with lock.open("rb") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise StateError(f"{folder} is served by another process; one at a time may write it") from None


def loop_of(settings: Running, learn: bool = True) -> Loop:
    """The loop that a configuration describes, not yet started."""
    return Loop(
        settings.folder, settings.policy, pace=settings.pace, recording=settings.recording, safety=settings.safety,
        guard=settings.guard, limits=settings.limits, clock=time.time, learn=learn,
        change=settings.change, recalibrate=settings.recalibrate, holdout=settings.gating.holdout,
        gating=settings.gating if settings.gated else None,
    )  # fmt: skip
