"""The server process: an address that is safe to bind, and an end that finishes what is open."""

from __future__ import annotations

import gc
import socket
import sys
from typing import Any

import uvicorn

from nearline._errors import ConfigError
from nearline.serve._access import check_bind
from nearline.serve._app import App
from nearline.serve._protocol import HttpProtocol

GRACE = 30
"""Seconds that open requests have to finish once the server stops."""
KEEP_ALIVE = 75
"""Seconds that a connection may be idle: a client's pool should give it up first, or a request meets a closed door."""
SWITCH = 0.0003
"""Seconds until a thread that waits for Python's lock gets it. At the default of 5 ms a group commit, which gives the
lock up several times, waits for the event loop at each, and the event loop for a learner."""


class _Server(uvicorn.Server):
    """Tells the app at once when it is to stop, so that streams of events end and do not hold it up.

    What stands when it starts (modules, the model: a hundred thousand objects and more) is kept from the garbage
    collector while it serves: looking through it takes some tens of milliseconds, in which no request is answered.
    """

    def __init__(self, config: uvicorn.Config, app: App) -> None:
        super().__init__(config)
        self._app, self._before = app, sys.getswitchinterval()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._before = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH)
        gc.freeze()
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.stop()
        await super().shutdown(sockets)
        sys.setswitchinterval(self._before)
        gc.unfreeze()


def server(app: App, *, host: str = "127.0.0.1", port: int = 8000, **options: Any) -> uvicorn.Server:
    """A server that is ready to `run()`: it stops at SIGINT or SIGTERM, when what is open has been answered.

    Every answer of /predict and /outcome waits for its rows to be durable, so once this has stopped nothing is
    unwritten that anybody was told of.

    Raises
    ------
    ConfigError
        The address can be reached from other machines, and there are no tokens.
    """
    check_bind(host, app.tokens)
    config = uvicorn.Config(
        app, host=host, port=port, access_log=False, log_level="warning", server_header=False, date_header=False,
        lifespan="on", loop="auto", http=HttpProtocol, proxy_headers=False, ws="none", timeout_graceful_shutdown=GRACE,
        **{"timeout_keep_alive": KEEP_ALIVE, **options},
    )  # fmt: skip
    return _Server(config, app)


def bound(host: str, port: int) -> socket.socket:
    """A listening socket, bound before anything else is started; port 0 takes a free one.

    Raises
    ------
    ConfigError
        The address is taken or is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}; choose another port") from error
    return listening
