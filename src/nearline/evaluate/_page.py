"""The frame of a report: one HTML file with its style in it, that loads nothing and runs nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from nearline.evaluate import _canvas

_STYLE = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--wash);color:var(--ink);font:16px/1.55 var(--font);font-variant-numeric:tabular-nums}
main{max-width:1120px;margin:0 auto;padding:48px 24px 64px}
.eyebrow{margin:0 0 20px;color:var(--muted);font-size:14px;overflow-wrap:anywhere}
.eyebrow b{color:var(--ink);font-weight:600}
h1{margin:0;font-size:clamp(23px,3.4vw,34px);line-height:1.25;font-weight:650;letter-spacing:-.015em;text-wrap:balance;max-width:30em}
.lead{margin:14px 0 0;color:var(--muted);max-width:46em}
h2{margin:56px 0 4px;font-size:21px;line-height:1.3;font-weight:650;letter-spacing:-.01em}
h2+p{margin:0 0 16px;color:var(--muted);max-width:46em}
h3{margin:24px 0 10px;font-size:16px;font-weight:650;overflow-wrap:anywhere}
.card{background:var(--paper);border:1px solid var(--line);border-radius:12px;padding:18px 20px;min-width:0}
.grid{display:grid;gap:16px;grid-template-columns:repeat(2,minmax(0,1fr))}
.small{grid-template-columns:repeat(auto-fill,minmax(240px,1fr))}
figure{margin:0}
figure h4,.bars h4{margin:0 0 8px;font-size:15px;font-weight:650;line-height:1.35;overflow-wrap:anywhere}
figcaption{margin-top:8px;color:var(--muted);font-size:14px;line-height:1.45}
.plot{display:block;width:100%;height:auto;overflow:visible}
.plot *{stroke-linejoin:round}
.plot g{transition:opacity .12s}
.scroll{overflow-x:auto;-webkit-overflow-scrolling:touch}
.tablecard{padding:6px 0;margin-top:32px}
table{border-collapse:collapse;width:100%;font-size:15px}
th,td{padding:10px 14px;text-align:right;white-space:nowrap;vertical-align:top}
th{color:var(--muted);font-weight:500;font-size:13.5px}
tbody tr{border-top:1px solid var(--line)}
tbody th{color:var(--ink);font-size:15px;font-weight:500}
th:first-child,td.text,th.text{text-align:left}
tr>:first-child{padding-left:20px}
tr>:last-child{padding-right:20px}
tbody tr[class]:hover{background:var(--wash)}
td b{font-weight:700;color:var(--fresh0)}
td b{position:relative}
td b::after{content:"★";position:absolute;left:calc(100% + 2px);top:.1em;font-size:.7em}
tr.truth th,tr.truth td{color:var(--muted);font-style:italic}
.wide td{white-space:normal;min-width:150px}
.wide td:nth-child(2){min-width:260px}
.pair{white-space:nowrap}
.name{display:flex;gap:10px;align-items:center}
.key{flex:none;width:30px;height:12px}
.legend{display:flex;flex-wrap:wrap;gap:6px 20px;margin:0 0 14px;padding:0;list-style:none;font-size:14px}
.legend li{display:flex;gap:8px;align-items:center;overflow-wrap:anywhere}
.bar{display:flex;flex-wrap:wrap;justify-content:space-between;gap:2px 12px;padding:6px 0;font-size:14px}
.bar span{overflow-wrap:break-word;min-width:0}
.bar i{font-style:normal;color:var(--muted)}
.bar u{flex:0 0 100%;height:8px;border-radius:4px;background:var(--wash)}
.bar u::before{content:"";display:block;height:100%;width:max(2px,var(--w));border-radius:4px;background:var(--c)}
dl{display:grid;grid-template-columns:minmax(9em,auto) 1fr;gap:8px 24px;margin:0;font-size:15px}
dt{color:var(--muted)}
dd{margin:0;overflow-wrap:anywhere}
.quiet{color:var(--muted)}
@media (max-width:760px){
main{padding:28px 16px 48px}
.grid{grid-template-columns:minmax(0,1fr)}
.small{grid-template-columns:repeat(2,minmax(0,1fr));gap:10px}
.card{padding:14px}
.small .card{padding:10px}
.tablecard{padding:4px 0;margin-top:24px}
h2{margin-top:44px}
th,td{padding:9px 10px}
tr>:first-child{padding-left:14px}
.results th:first-child{position:sticky;left:0;z-index:1;background:var(--paper)}
.results th:first-child{min-width:138px;max-width:170px;white-space:normal}
dl{grid-template-columns:1fr;gap:0}
dd{margin-bottom:10px}
}
@media print{body{background:#fff}.card{break-inside:avoid}}
"""


def page(title: str, body: str, series: int) -> str:
    """A whole document.

    Parameters
    ----------
    title
        Plain text.
    series
        How many series there are: pointing at one in a table or legend dims the others in every plot.
    """
    dims = "".join(f"main:has(tr.v{k}:hover,li.v{k}:hover) .series:not(.v{k}){{opacity:.12}}" for k in range(series))
    day = f":root{{color-scheme:light dark;--font:{_canvas.FONT};{_canvas.variables()}}}"
    night = f"@media (prefers-color-scheme:dark){{:root{{{_canvas.variables(True)}}}}}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # nothing may be fetched or run, whatever a column or variant is called
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>{day}{night}{_STYLE}{dims}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def section(title: str, says: str, *parts: str) -> str:
    """A heading, a sentence on what to look for, and what follows; nothing at all without parts."""
    body = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{escape(title)}</h2>\n<p>{escape(says)}</p>\n{body}\n</section>" if body else ""


def figure(title: str, svg: str, caption: str, key: str = "") -> str:
    """A plot with its title above and one line on what it shows below; `key` is markup."""
    heading = f'<span class="name">{key}{escape(title)}</span>' if key else escape(title)
    return f'<figure class="card"><h4>{heading}</h4>{svg}<figcaption>{escape(caption)}</figcaption></figure>'


def grid(parts: Iterable[str], small: bool = False) -> str:
    """Figures side by side where there is room."""
    cells = "\n".join(part for part in parts if part)
    return f'<div class="grid{" small" if small else ""}">\n{cells}\n</div>' if cells else ""


def key(colour: str) -> str:
    """A short stroke as the plots draw it: colour, dashes and marker."""
    dash = {"fixed": "2 3", "batch": "7 3", "refit": "8 3 2 3"}.get(colour.rstrip("0123456789"), "")
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    style = f'style="stroke:var(--{colour});fill:var(--{colour})"'
    shape = {
        "fixed": '<path d="M11.5 2.5h7v7h-7z"/>',
        "batch": '<path d="M15 1.5l4.5 4.5-4.5 4.5-4.5-4.5z"/>',
        "refit": '<path d="M15 1.5l4.5 8h-9z"/>',
    }.get(colour.rstrip("0123456789"), '<circle cx="15" cy="6" r="3.5"/>')
    return (
        f'<svg class="key" viewBox="0 0 30 12" aria-hidden="true" {style}>'
        f'<path d="M1 6h28" stroke-width="2.4"{dashes}/>{shape}</svg>'
    )


TRUTH_KEY = (
    '<svg class="key" viewBox="0 0 30 12" aria-hidden="true"><path d="M1 6h28" stroke-width="2" '
    'stroke-dasharray="2 3" style="stroke:var(--ink)"/></svg>'
)


def legend(entries: Sequence[tuple[str, str, str]]) -> str:
    """Names with their strokes, from (class, key markup, name)."""
    items = "".join(f'<li class="{cls}">{mark}{escape(name)}</li>' for cls, mark, name in entries)
    return f'<ul class="legend">{items}</ul>'


def bar(name: str, value: str, share: float, colour: str) -> str:
    """One labelled bar with its series' stroke, `share` of the full width."""
    width = f"--w:{100 * min(1.0, max(0.0, share)):.2f}%;--c:var(--{colour})"
    title = f'<span class="name">{key(colour)}{escape(name)}</span>'
    return f'<div class="bar">{title}<i>{escape(value)}</i><u style="{width}"></u></div>'


def definitions(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and what they stand for."""
    return f"<dl>{''.join(f'<dt>{escape(a)}</dt><dd>{escape(b)}</dd>' for a, b in pairs)}</dl>"
