"""Serving: requests of 100 rows to the real HTTP server, beside an endpoint of the same stack that computes nothing.

Three server processes take turns under `wrk` on the same machine: `full` scores every row and answers once its
predictions are durable (a group commit on disk); `unrecorded` scores and writes nothing; `empty` decodes the same rows
into the same types and encodes a ready answer of the same form and length.

    rps_vs_empty       requests/s of full over empty, both at saturation
    p99_ms_half_load   99th percentile of full, at half of its own saturation, arrivals at random
    recording_cost     share of requests/s that recording takes: 1 − full / unrecorded

`wrk` must be on the path (apt-get install wrk).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks import _report

ROWS, BODIES, CONNECTIONS = 100, 64, 32
MODES = ("full", "unrecorded", "empty")
_CHILD = Path(__file__).with_name("_serving_child.py")
_SCRIPT = """
local bodies, n, k = {}, %d, 0
init = function(arguments)
  math.randomseed(7)
  for i = 1, n do
    local file = io.open("%s/body" .. i .. ".json", "rb")
    bodies[i] = wrk.format("POST", "/predict", {["Content-Type"] = "application/json"}, file:read("*a"))
    file:close()
  end
end
request = function() k = k %% n + 1; return bodies[k] end
"""
_DELAY = "delay = function() return math.floor(-math.log(1 - math.random()) * %f + 0.5) end\n"


@dataclass(frozen=True)
class Load:
    """What wrk saw: requests per second, percentiles in milliseconds, answers that were no success."""

    rps: float
    p50: float
    p99: float
    bad: int


def main() -> None:
    args = _report.arguments(__doc__, seconds=4, times=5)
    if shutil.which("wrk") is None:
        sys.exit("wrk is not on the path: apt-get install wrk (Debian and Ubuntu), brew install wrk (macOS)")
    seconds, times = (2, 2) if args.quick else (args.seconds, args.times)
    with tempfile.TemporaryDirectory() as found, ExitStack() as stack:
        folder = Path(found)
        prepare(folder)
        ports = {mode: stack.enter_context(serving(folder, mode)) for mode in MODES}
        for mode in MODES:
            load(folder, ports[mode], 1)
        rounds = [{mode: load(folder, ports[mode], seconds) for mode in MODES} for _ in range(times)]
        full = float(np.median([found["full"].rps for found in rounds]))
        half = [load(folder, ports["full"], seconds, rate=full / 2) for _ in range(times)]
    report(rounds, half, args.json)


def report(rounds: list[dict[str, Load]], half: list[Load], as_json: bool) -> None:
    """Print what was measured; refuse to report a run with failed requests."""
    bad = sum(found.bad for turn in rounds for found in turn.values()) + sum(found.bad for found in half)
    if bad:
        sys.exit(f"{bad} requests failed: nothing to report")
    spread = _report.Spread.of
    vs_empty = spread(turn["full"].rps / turn["empty"].rps for turn in rounds)
    cost = spread(1.0 - turn["full"].rps / turn["unrecorded"].rps for turn in rounds)
    rows = [
        (mode, str(spread(t[mode].rps for t in rounds)), str(spread(t[mode].p50 for t in rounds)),
         str(spread(t[mode].p99 for t in rounds)))
        for mode in MODES
    ]  # fmt: skip
    rows.append(("full, half load", *(str(spread(getattr(h, name) for h in half)) for name in ("rps", "p50", "p99"))))
    rows.append(("full / empty", str(vs_empty), "", ""))
    rows.append(("recording's share", str(cost), "", ""))
    bars = [
        _report.Bar("rps_vs_empty", vs_empty.median, 0.5, "x", ">="),
        _report.Bar("p99_ms_half_load", spread(h.p99 for h in half).median, 15.0, "ms", "<="),
        _report.Bar("recording_cost", cost.median, 0.25, "", "<="),
    ]
    title = f"{ROWS} rows a request, {CONNECTIONS} connections, server and wrk on one machine"
    _report.finish(bars, as_json, [_report.table(title, ("server", "requests/s", "p50 ms", "p99 ms"), rows)])


def prepare(folder: Path) -> None:
    """A model with ten thousand members and three thousand ads, and bodies to ask it with."""
    import nearline as nl

    rng = np.random.default_rng(0)
    names = {"country": 30, "device": 5, "category": 20, "hour": 24}
    numbers = ("price", "age", "rank", "quality")

    def events(n: int) -> dict[str, Any]:
        levels = {name: [f"{name}{i}" for i in rng.integers(0, k, n)] for name, k in names.items()}
        drawn = {name: rng.normal(size=n).round(4).tolist() for name in numbers}
        return {
            "member": rng.integers(0, 10_000, n).tolist(),
            "ad": rng.integers(0, 3_000, n).tolist(),
            **levels,
            **drawn,
        }

    on = [*names, *numbers]
    random = [nl.Random("member", on=["category", "price"]), nl.Random("ad", on=["device"])]
    model = nl.GLMix(nl.Schema(label="clicked"), nl.Fixed(*on), random)
    model.partial_fit(events(60_000) | {"clicked": rng.integers(0, 2, 60_000)})
    model.save(folder / "model")
    for number in range(1, BODIES + 1):
        columns = events(ROWS)
        rows = [dict(zip(columns, values)) for values in zip(*columns.values())]
        (folder / f"body{number}.json").write_text(json.dumps({"rows": rows}, separators=(",", ":")))


@contextmanager
def serving(folder: Path, mode: str) -> Iterator[int]:
    """Port of a server process."""
    command = [sys.executable, str(_CHILD), mode, str(folder / "model"), str(folder / f"state-{mode}")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.strip():
                sys.exit(f"the {mode} server did not start")
            time.sleep(0.3)
            yield int(line)
        finally:
            process.terminate()


def load(folder: Path, port: int, seconds: int, rate: float | None = None) -> Load:
    """What wrk saw in so many seconds: as fast as it goes, or at a rate with random gaps."""
    connections, script = CONNECTIONS, _SCRIPT % (BODIES, folder)
    if rate is not None:
        connections = 2 * CONNECTIONS
        script += _DELAY % (1000.0 * connections / rate)
    path = folder / "load.lua"
    path.write_text(script)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(path),
               f"http://127.0.0.1:{port}"]  # fmt: skip
    return parsed(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def parsed(text: str) -> Load:
    r"""Load from the output of wrk.

    >>> parsed("   50%  850.00us\n   99%    1.50ms\nRequests/sec:   9011.5\n")
    Load(rps=9011.5, p50=0.85, p99=1.5, bad=0)
    """
    percentiles = re.findall(r"(\d+)%\s+([\d.]+)(us|ms|s)", text)
    found = {percent: float(number) * _MS[unit] for percent, number, unit in percentiles}
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    bad = int(failed[1]) if failed else 0
    bad += sum(map(int, broken.groups())) if broken else 0
    return Load(float(rate[1]) if rate else 0.0, found["50"], found["99"], bad)


_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


if __name__ == "__main__":
    main()
