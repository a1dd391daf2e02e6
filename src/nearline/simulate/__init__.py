"""A marketplace with known truth, and the random-effects simulation of the reference measurements.

Members see ads; whether they click depends on coefficients that drift, jump and die with their ads. Because the
truth is known, each event carries the probability that no model can beat, and `bayes` says how good that is.

>>> from nearline import simulate
>>> table = simulate.stream(simulate.Marketplace(events=1000, members=50, ads=20, campaigns=5))
>>> table.num_rows
1000
"""

from nearline.simulate._config import Delay, Drift, Marketplace
from nearline.simulate._live import Request, Traffic
from nearline.simulate._market import Market, batches, stream
from nearline.simulate._random_effects import RandomEffects, random_effects
from nearline.simulate._score import bayes
from nearline.simulate._truth import Truth

__all__ = [
    "Delay",
    "Drift",
    "Market",
    "Marketplace",
    "RandomEffects",
    "Request",
    "Traffic",
    "Truth",
    "batches",
    "bayes",
    "random_effects",
    "stream",
]
