"""The dashboard's files, read once, under a policy that lets nothing but them run."""

from __future__ import annotations

import mimetypes
from hashlib import blake2b
from importlib import resources
from typing import NamedTuple

POLICY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class Page(NamedTuple):
    """One file: its content, media type and entity tag."""

    body: bytes
    media: str
    tag: str


def pages() -> dict[str, Page]:
    """Files by path: / is the dashboard, /static/... what it needs."""
    found: dict[str, Page] = {}
    folder = resources.files("nearline") / "serve" / "static"
    for file in folder.iterdir() if folder.is_dir() else ():
        if file.is_file():
            body = file.read_bytes()
            media = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            text = media.startswith("text/") or media.endswith("javascript")
            page = Page(
                body, f"{media}; charset=utf-8" if text else media, f'"{blake2b(body, digest_size=8).hexdigest()}"'
            )
            found[f"/static/{file.name}"] = page
    if "/static/index.html" in found:
        found["/"] = found["/static/index.html"]
    return found
