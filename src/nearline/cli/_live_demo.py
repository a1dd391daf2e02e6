"""`nearline demo`: a simulated marketplace as the client of a real service, through a shock and a wave of new ads."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console

from nearline import config as configs
from nearline._errors import ConfigError, StateError
from nearline.cli import _fit, _live_score, _live_table, _run
from nearline.cli._drive import Seen, drive
from nearline.config import Config
from nearline.schema import key_columns
from nearline.serve import bound
from nearline.simulate import Delay, Drift, Marketplace, Traffic

READY_SECONDS = 60.0
FOREVER = 86_400.0
KEPT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What the demo does: how long, how much, and when the world changes."""

    seconds: float
    rate: float
    seed: int

    def traffic(self) -> Traffic:
        """The marketplace: an hour and a half of its time a minute; a shock after a third, new ads after two thirds."""
        span = self.seconds or FOREVER
        shock, wave = (30.0, 65.0) if span >= 90 else (span / 3, span * 0.75)
        past = 120.0
        market = Marketplace(
            members=300, ads=30, campaigns=6, days=(span + past) * 90.0 / 86_400, base_rate=0.3, ad_lifetime=1.0,
            drift=Drift(member_half_life=30.0),
        )  # fmt: skip
        days = market.days
        before = replace(market, shocks=((days * past / (span + past) * 0.8, 1.0),))
        return Traffic(
            before, duration=span, rate=self.rate, batch=30, delay=Delay(mean=0.5, never=0.0),
            history=past / (span + past), shock_at=shock, shock=1.0, cold_start_at=wave, wave=0.3, seed=self.seed,
        )  # fmt: skip


def run(plan: Plan, out: Path, headless: bool, as_object: bool) -> None:
    """Fit a first model, serve it, send it traffic, and sum up what came of it."""
    console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True, quiet=as_object)
    traffic = plan.traffic()
    console.print("A simulated marketplace: members see ads; a service predicts who clicks, and learns as they do.")
    began = time.time()
    config = prepare(traffic, out, began, as_object)
    with _service(config) as url:
        console.print(f"dashboard: {url}/", style="bold")
        if not plan.seconds:
            console.print("until you press Ctrl-C; the summary then covers the last ten minutes")
        seen = Seen()
        with _live_table.shown(url, seen, traffic, console, headless or as_object) as board:
            _drive(traffic, url, config, seen)
        status = board.last
        console.print("stopping the service ...", style="dim")
    _live_score.conclude(config, traffic, seen, status, began, out, as_object)


def prepare(traffic: Traffic, out: Path, now: float, quiet: bool) -> Config:
    """Configuration, history and a published first version in `out`; what an earlier demo left there goes."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = out / "nearline.toml"
        wanted = resources.files("nearline.cli").joinpath("live.toml").read_text("utf-8")
        _refuse_others(file, wanted)
        file.write_text(wanted, "utf-8")
        past = traffic.past(start=now)
        pq.write_table(past.drop_columns(["true_probability", "outcome_time"]), out / "history.parquet")
    except OSError as error:
        raise ConfigError(f"--out: cannot write to {out}: {error}") from error
    config = configs.load(file)
    _clear(config.running().folder)
    _fit.make(config, "fit from history", True, quiet)
    return config


def _refuse_others(file: Path, wanted: str) -> None:
    """Nothing of anybody else's is overwritten: only what an earlier demo has left."""
    mark = wanted.partition("\n")[0]
    if file.exists() and file.read_text("utf-8", "replace").partition("\n")[0] != mark:
        raise ConfigError(f"{file} is not of an earlier demo; choose another --out")
    state = file.parent / "state"
    if state.exists() and not (state / "registry.sqlite").exists() and any(state.iterdir()):
        raise ConfigError(f"{state} is not a state directory of nearline; choose another --out")


def _clear(folder: Path) -> None:
    """Remove the state of an earlier demo."""
    import shutil

    if folder.exists():
        _run.require_free(folder)
        shutil.rmtree(folder)


@contextmanager
def _service(config: Config) -> Iterator[str]:
    """`nearline run` in a process of its own, until the block ends."""
    probe = bound("127.0.0.1", 0)
    port = probe.getsockname()[1]
    probe.close()
    command = [sys.executable, "-m", "nearline", "run", str(config.file), "--port", str(port)]
    pinned = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    log = config.file.parent / "service.log"
    with log.open("wb") as sink:
        # A session of its own: Ctrl-C in the terminal is for the traffic; the service ends when it is told to.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env={**os.environ, **pinned},
            start_new_session=True,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(process, url, log)
        yield url
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise StateError(f"the service ended at once; {log} says: {log.read_text(errors='replace')[-600:]}")
        with suppress(OSError):
            urllib.request.urlopen(f"{url}/readyz", timeout=1.0).close()
            return
        time.sleep(0.05)
    raise StateError(f"the service is not ready after {READY_SECONDS:.0f} s; see {log}")


def _drive(traffic: Traffic, url: str, config: Config, seen: Seen) -> None:
    model = config.model()
    columns = [*key_columns(model.encoder.keys), *model.encoder.features]
    with _interrupted() as stopped, suppress(KeyboardInterrupt):
        asyncio.run(drive(
            traffic, url, seen=seen, keep_rows=True, keep_seconds=KEPT_SECONDS, columns=list(dict.fromkeys(columns)),
            drain=3.0, stopped=stopped,
        ))  # fmt: skip


@contextmanager
def _interrupted() -> Iterator[Callable[[], bool]]:
    """Whether somebody asked for an end (SIGINT, SIGTERM, SIGHUP); a second time it is a KeyboardInterrupt."""
    asked = False

    def ask(signum: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def status_of(url: str) -> dict[str, Any] | None:
    """The service's status; None where it does not answer."""
    try:
        with urllib.request.urlopen(f"{url}/api/status", timeout=2.0) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found
    except (OSError, ValueError):
        return None
