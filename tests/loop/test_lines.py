"""No two models share a name, whatever is published, learned and rolled back in whatever order."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nearline.loop._lines import Line
from nearline.store import Version


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("learn"), st.integers(1, 5)),
            st.tuples(st.just("keep")),
            st.tuples(st.just("fit")),
            st.tuples(st.just("publish"), st.integers(0, 20)),
        )
    )
)
def test_a_name_is_of_one_model(doings: list[tuple[Any, ...]]) -> None:
    whole, examples, used = 1, 0, set[tuple[int, int]]()
    kept = {Version(1): ("fit", 1)}
    line = Line.after(Version(1), used, 0)
    model: tuple[Any, ...] = ("fit", 1)
    named: dict[Version, Any] = dict(kept)
    used.add((line.whole, line.batch))
    for what, *how in doings:
        if what == "learn":
            examples += how[0]
            model = (*model, examples)
            assert named.setdefault(line.version(examples), model) == model
            assert line.served(str(line.version(examples)))
        elif what == "keep":
            kept[line.version(examples)] = model
        elif what == "fit":
            whole += 1
            kept[Version(whole)] = named[Version(whole)] = ("fit", whole)
        else:
            base = list(kept)[how[0] % len(kept)]
            line, model = Line.after(base, used, examples), kept[base]
            used.add((line.whole, line.batch))
        assert named[line.version(examples)] == model
        assert Line.from_dict(line.to_dict()) == line
