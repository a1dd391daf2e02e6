"""`nearline run` starts `nearline refit` and `train` every so often, as processes of their own beside the service."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from nearline._errors import NearlineError
from nearline.loop import was_left
from nearline.loop._examples import SCHEMA as EXAMPLES
from nearline.store import Log, Registry, Version

_logger = logging.getLogger("nearline")
LOOK_SECONDS, STOP_SECONDS = 30.0, 10.0


class Refits:
    """Re-fits whenever the newest fit is older than `every` seconds; a failure is logged and never stops serving.

    Parameters
    ----------
    file, folder
        The `nearline.toml`, and its state directory.
    command
        What is run; by default this nearline's own `refit`.
    look
        Seconds between two looks at the registry.
    """

    verb, name, done = "refit", "re-fit", "re-fitted"

    def __init__(
        self, file: Path, folder: Path, every: float, *, command: Sequence[str] | None = None,
        look: float = LOOK_SECONDS,
    ) -> None:  # fmt: skip
        self._command = list(command or (sys.executable, "-m", "nearline", self.verb, str(file), "--json"))
        self._folder, self._every, self._look = folder, every, min(look, every)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="nearline-refits", daemon=True)
        self._tried = -float("inf")

    def __enter__(self) -> Refits:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stop.wait(self._look):
            try:
                if self._due(time.time()):
                    self._tried = time.time()
                    self._run()
            except (OSError, NearlineError) as error:
                _logger.error("the %s could not be started: %s", self.name, error)

    def _due(self, now: float) -> bool:
        registry = Registry(self._folder, clock=time.time)
        try:
            fits = [record.created for record in registry.versions() if self._counts(record.version)]
        finally:
            registry.close()
        return now - max([self._tried, *fits]) >= self._every

    def _run(self) -> None:
        _logger.info("%s from the ledger begins", self.name)
        child = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while True:
            try:
                out, err = child.communicate(timeout=self._look if self._look < 1.0 else 1.0)
                break
            except subprocess.TimeoutExpired:
                if self._stop.is_set():
                    _end(child)
                    return
        self._tell(child.returncode, out, err)

    def _tell(self, code: int, out: str, err: str) -> None:
        """Say in the log what came of it: published, refused with reasons, or failed with the last thing it said."""
        try:
            found = msgspec.json.decode(out)
        except msgspec.DecodeError:
            found = {}
        if code == 0 and found:
            _logger.info(
                "version %s is %s%s", found["version"], self.done, "" if found["published"] else " and registered"
            )
        elif found.get("refused"):
            reasons = "; ".join(found["refused"])
            _logger.warning("version %s is %s and not published: %s", found["version"], self.done, reasons)
        else:
            said = err.strip().splitlines()
            _logger.error("the %s failed with status %d: %s", self.name, code, said[-1] if said else "it said nothing")

    @staticmethod
    def _counts(version: Version) -> bool:
        """Whether a version is one of those that the next is due after."""
        return version.nearline == 0


class Trainings(Refits):
    """Trains the network when the newest global version is older than `every` seconds, or enough examples came; and,
    once, when a training was killed before it came to its end.

    Parameters
    ----------
    every
        None for never by time.
    examples
        So many since the cut-off of the live global version, and since the last try.
    """

    verb, name, done = "train", "training", "trained"

    def __init__(
        self, file: Path, folder: Path, every: float | None, examples: int | None = None, *,
        command: Sequence[str] | None = None, look: float = LOOK_SECONDS,
    ) -> None:  # fmt: skip
        super().__init__(file, folder, math.inf if every is None else every, command=command, look=look)
        self._examples, self._seen = examples, 0

    def _due(self, now: float) -> bool:
        left = was_left(self._folder)
        if left is not None and left > self._tried:
            return True
        return super()._due(now) or (self._examples is not None and self._came() >= self._examples)

    def _came(self) -> int:
        registry = Registry(self._folder, clock=time.time)
        try:
            live = registry.live()
            whole = None if live is None else registry.record(Version(live.version.whole))
        finally:
            registry.close()
        cutoff = 0 if whole is None else whole.positions.get("examples", 0)
        return self._end() - max(cutoff, self._seen)

    def _end(self) -> int:
        with Log.open(self._folder / "ledger" / "examples", EXAMPLES, read_only=True) as log:
            return log.end

    def _run(self) -> None:
        self._seen = self._end()
        super()._run()

    @staticmethod
    def _counts(version: Version) -> bool:
        return version.nearline == version.batch == 0


def _end(child: subprocess.Popen[str]) -> None:
    child.terminate()
    try:
        child.communicate(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
