"""`nearline.toml`: data, schema, model and backtest in one file, saying the same as the Python API.

    config = load("nearline.toml")
    model, table = config.model(), config.table()

Every table and field is described in ``docs/configuration.md``.
"""

from nearline.config._config import Config, load, loads
from nearline.config._tables import Tables

__all__ = ["Config", "Tables", "load", "loads"]
