"""Keeping every block fresh from the newest slice alone: gain over a stale model, and time, against full refits.

MovieLens-1M (likes and dislikes), Bank Marketing and the simulated marketplace in 20 slices in order of time. Every
slice is predicted by each method's model as trained on what came before, then trained on. Priors are learned once, on
the first slice, for all methods alike; probabilities are averaged over each model's posterior; every fit has the
package's own settings. Time is processor time of one thread. Intervals (95 %) are bootstraps: of users on MovieLens, of
events on Bank Marketing; on the simulator they are Student's t over its seeds. `--write` renews the figure and the
section of docs/results.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import _report
from experiments import _incremental_page, _results, _slices


def main() -> None:
    args = _report.arguments(__doc__, write=False, seeds=3, jobs=1, rows=_incremental_page.ROWS, only="")
    names = [name for name in _slices.CASES if args.only in ("", name)]
    size = _slices.Size.of(args.quick, args.rows)
    runs = _slices.measure(names, size, args.seeds, args.jobs)
    summary = {name: _incremental_page.summarise(name, found, size.draws) for name, found in runs.items()}
    bars, tables = _incremental_page.bars(summary), _incremental_page.tables(summary)
    if args.write and not args.quick and not args.only:
        _incremental_page.draw(runs)
        _results.write_section("incremental_recsys", _incremental_page.section(bars, tables, args.rows))
    _report.finish(bars, args.json, [table.shown() for table in tables])


if __name__ == "__main__":
    main()
