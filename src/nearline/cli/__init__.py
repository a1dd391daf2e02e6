"""The `nearline` command: `nearline demo`, `nearline backtest`, `nearline check`."""

from nearline.cli._app import app, main

__all__ = ["app", "main"]
