"""Settings by search, for those whom the defaults that history teaches do not satisfy.

    found = tune(model, table, trials=60, folder="nearline-tune")

Every trial is judged by progressive validation on the first part of the stream, the best of them on the rest.
"""

from nearline.tune._fragment import fragment, written
from nearline.tune._gap import Gap
from nearline.tune._judge import judge
from nearline.tune._space import Axis, Space
from nearline.tune._trials import Trial
from nearline.tune._tune import tune
from nearline.tune._tuned import Tuned

__all__ = ["Axis", "Gap", "Space", "Trial", "Tuned", "fragment", "judge", "tune", "written"]
