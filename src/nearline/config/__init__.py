"""`nearline.toml`: data, schema, model and backtest in one file, saying the same as the Python API.

    config = load("nearline.toml")
    model, table = config.model(), config.table()

Every table and field is described in ``docs/configuration.md``.
"""

from nearline.config._all_tables import Tables
from nearline.config._config import Config, load, loads
from nearline.config._learning import learn_priors
from nearline.config._running import Running

__all__ = ["Config", "Running", "Tables", "learn_priors", "load", "loads"]
