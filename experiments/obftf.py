"""One backward from ten forward: train on the few examples that recorded forward passes single out.

    python experiments/obftf.py ctr|mnist|cifar|regression [--json] [--seeds N] [--jobs N] [--device cuda] [--write]

`ctr`: drifting click streams, MovieLens-1M and Bank Marketing, one step per window on a tenth of it, every rule; each
window is scored before it is trained on, and the last half counts. `mnist`, `cifar`: test error at equal backward
passes and at equal time, at several ratios. `regression`: a line through points of which some are outliers.
`--write` renews the figure and the section of docs/results.md. `--keep FILE` adds each run (but of `regression`)
to a file, and does not repeat those that it holds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import _report
from experiments import _results
from experiments._results import Table


def main() -> None:
    args = _report.arguments(
        __doc__, choices=("ctr", "mnist", "cifar", "regression"), seeds=5, jobs=1, device="cpu", keep="", write=False
    )
    bars, tables, shown = _experiment(args.what)(args)
    if args.write and not args.quick:
        parts = [_results.bars_table(bars).markdown(), shown, *(table.markdown() for table in tables)]
        command = f"```\npython experiments/obftf.py {args.what} --json --seeds {args.seeds}\n```"
        _results.write_section(f"obftf_{args.what}", "\n\n".join([command, *filter(None, parts)]))
    _report.finish(bars, args.json, [table.shown() for table in tables])


def _experiment(what: str) -> Callable[[Any], tuple[list[_report.Bar], list[Table], str]]:
    if what == "ctr":
        from experiments._obftf_ctr import ctr

        return ctr
    if what == "regression":
        from experiments._obftf_regression import regression

        return regression
    from experiments._obftf_images import images

    return images


if __name__ == "__main__":
    main()
