"""Public data sets on streams, as Arrow tables in order of time.

No data comes with the package, and some of it may not be passed on: read the licence of each loader. A loader looks in
its `folder` argument or, without one, in the folder named by the environment variable NEARLINE_DATA; `download` fetches
the original archives. Every table has a column `timestamp`, in seconds since the epoch.
"""

from nearline.datasets._bank import bank_marketing
from nearline.datasets._download import download
from nearline.datasets._elec2 import elec2
from nearline.datasets._movielens import movielens_1m, movielens_100k

__all__ = ["bank_marketing", "download", "elec2", "movielens_1m", "movielens_100k"]
