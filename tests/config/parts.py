"""Configurations that several files of tests read."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
SCHEMA = '[schema]\nlabel = "clicked"\n'

EVERYTHING = """
[data]
dataset = "marketplace"
rows = 300
[data.marketplace]
events = 400
members = 30
ads = 12
campaigns = 4
seed = 5

[schema]
label = "clicked"
time = "timestamp"
id = "event_id"
weight = "w"
offset = "o"
[schema.columns]
age = { kind = "numeric", center = 40, scale = 15.5 }
place = { kind = "categorical" }
topics = { kind = "multi", sep = "|" }
picture = { kind = "vector" }
url = { kind = "hashed", bits = 9 }

[model]
link = "log"
mode = "minibatch"
dtype = "float32"
threads = 2

[fixed]
on = ["place", "topics"]
intercept = false
posterior = "diagonal"
rank = 3
[fixed.prior]
variance = 0.5
[fixed.fit]
l1 = { place = 0.5 }
bounds = { topics = [-1, 1.5] }
normalise = "unit_sd"
negatives = 0.5

[[random]]
key = "ad_id"
on = ["age"]
parent = "campaign_id"
posterior = "full"
name = "ad"
[random.prior]
variance = { "(intercept)" = 2, age = 0.5, "*" = 0.1 }
mean = { age = -1 }
[random.forgetting]
half_life = "7d"
walk_per_event = { "(intercept)" = 0.01 }
walk_per_day = 0.25

[[random]]
key = ["ad_id", "place"]
[random.forgetting]
form = "per_update"
delta = 0.8

[[loadings]]
key = "user_id"
of = "ad"
name = "taste"
[loadings.prior]
variance = 0.2
[loadings.forgetting]
half_life = 3600

[backtest]
history = 0.25
[[backtest.variants]]
name = "daily"
learns = "nothing"
refit = "1d"
[[backtest.variants]]
name = "hundreds"
every = 100
"""
