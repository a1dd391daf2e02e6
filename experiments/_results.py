"""Tables for the terminal and for docs/results.md, whose sections the experiments write themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import _report

DOCS = Path(__file__).resolve().parents[1] / "docs"
FIGURES = DOCS / "figures"
RESULTS = DOCS / "results.md"


@dataclass(frozen=True)
class Table:
    """A table to print and to publish; cells are text or numbers."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[object]]

    def shown(self) -> Any:
        """For the terminal."""
        return _report.table(self.title, self.columns, self.rows)

    def markdown(self) -> str:
        """For the results page.

        >>> print(Table("Lift", ("rule", "lift"), [("full", 0.5)]).markdown())
        **Lift**
        <BLANKLINE>
        | rule | lift |
        | --- | ---: |
        | full | 0.5000 |
        """
        rule = " | ".join(["---", *["---:"] * (len(self.columns) - 1)])
        body = [" | ".join(_report.number(cell) for cell in row) for row in self.rows]
        return f"**{self.title}**\n\n" + "\n".join(f"| {line} |" for line in (" | ".join(self.columns), rule, *body))


def bars_table(bars: Sequence[_report.Bar]) -> Table:
    """The bars, for the results page."""
    columns = ("bar", "measured", "target", "met")
    return Table(
        "Bars", columns, [(f"`{b.name}`", b.value, _target(b), "yes" if b.passed else "no") for b in bars]
    )  # fmt: skip


def _target(bar: _report.Bar) -> str:
    return f"{'≥' if bar.direction == '>=' else '≤'} {_report.number(bar.target)} {bar.unit}".strip()


def write_section(name: str, text: str, page: Path = RESULTS) -> None:
    """Replace one experiment's section of the results page."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    old = page.read_text(encoding="utf-8")
    if begin not in old or end not in old:
        raise SystemExit(f"{page} has no section between {begin!r} and {end!r}; put the two lines in")
    head, tail = old.split(begin)[0], old.split(end)[1]
    page.write_text(f"{head}{begin}\n{text.strip()}\n{end}{tail}", encoding="utf-8")
