"""Without torch the modules of nearline.deep cannot be imported, not even for their doctests."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("torch") else ["src/nearline/deep/*"]
