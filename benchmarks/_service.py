"""A real `nearline run` in a process of its own, and a small blocking HTTP client for it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PINNED = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


class RefusedError(Exception):
    """An answer that is no success: its status and what it says."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"HTTP {status}: {body[:300]!r}")
        self.status, self.body = status, body


class Client:
    """One keep-alive connection; `OSError` or `http.client.HTTPException` when the service is gone."""

    def __init__(self, port: int, token: str | None = None, timeout: float = 10.0) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    def get(self, path: str) -> Any:
        """Body of a GET, decoded where it is JSON."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: Any) -> Any:
        """Body of the answer to a POST of JSON (already encoded bytes are sent as they are)."""
        return self._ask("POST", path, body if isinstance(body, bytes) else json.dumps(body).encode())

    def _ask(self, method: str, path: str, body: bytes | None) -> Any:
        self._connection.request(method, path, body, self._headers)
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status >= 300:
            raise RefusedError(answer.status, data)
        return json.loads(data) if "json" in (answer.getheader("Content-Type") or "") else data

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Service:
    """`nearline run` (or `serve`) with a configuration, as a process group that can be killed."""

    def __init__(self, config: Path, *, verb: str = "run", cores: set[int] | None = None) -> None:
        self.config, self.verb, self.cores = config, verb, cores
        self.port = free_port()
        self.log = config.parent / f"{verb}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, timeout: float = 60.0) -> float:
        """Start it; seconds until `/readyz` says yes."""
        command = [sys.executable, "-m", "nearline", self.verb, str(self.config), "--port", str(self.port)]
        began = time.perf_counter()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **PINNED}, start_new_session=True
            )
        if self.cores:
            os.sched_setaffinity(self.process.pid, self.cores)
        while time.perf_counter() - began < timeout:
            if self.process.poll() is not None:
                raise RuntimeError(f"{' '.join(command)} ended with {self.process.returncode}:\n{self.tail()}")
            with contextlib.suppress(OSError, http.client.HTTPException, RefusedError):
                client = Client(self.port, timeout=2.0)
                client.get("/readyz")
                client.close()
                return time.perf_counter() - began
            time.sleep(0.01)
        raise RuntimeError(f"{' '.join(command)} is not ready after {timeout} s:\n{self.tail()}")

    def tail(self, lines: int = 30) -> str:
        """The last lines it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def kill(self) -> None:
        """SIGKILL to the whole group; returns once it is gone."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def stop(self, timeout: float = 30.0) -> int:
        """SIGTERM, then its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout)
        self.process = None
        return code

    def memory_bytes(self) -> int:
        """Resident memory of the process."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))

    def open_files(self) -> int:
        """File handles that the process holds."""
        assert self.process is not None
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def settled(client: Client, timeout: float = 60.0) -> Iterator[dict[str, Any]]:
    """Statuses until no outcome waits to be learned."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        status = client.get("/api/status")
        yield status
        if not status["freshness"]["waiting"]:
            return
        time.sleep(0.05)
    raise RuntimeError("outcomes still wait to be learned")
