"""Fetching the original archives from their owners."""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nearline._errors import ConfigError, StateError


@dataclass(frozen=True)
class Source:
    """An archive: its address, the folder its files go to, and the SHA-256 of each wanted file (None: not known)."""

    url: str
    folder: str
    files: Mapping[str, str | None]


SOURCES: Mapping[str, Source] = {
    "movielens-1m": Source(
        "https://files.grouplens.org/datasets/movielens/ml-1m.zip",
        "ml-1m",
        {
            "ratings.dat": None,
            "users.dat": "1dc3a95300cb19f7c10e027daf29b8cdf1d908dab65b5edfb45950aa389a10a3",
            "movies.dat": "0140fc2356357c1a851d0f52e893a1e4d3696df632c4141cea8d5bc3d621f0b9",
            "README": "2d5ddce86ccbd247207456165827b4b9ddf27282bca93807d4c763e28414f133",
        },
    ),
    "movielens-100k": Source(
        "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
        "ml-100k",
        {
            "u.data": "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490",
            "u.item": "553841ebc7de3a0fd0d6b62a204ea30c1e651aacfb2814c7a6584ac52f2c5701",
            "u.user": "f120e114da2e8cf314fd28f99417c94ae9ddf1cb6db8ce0e4b5995d40e90e62c",
            "README": None,
        },
    ),
    "bank-marketing": Source(
        "https://archive.ics.uci.edu/static/public/222/bank+marketing.zip", "bank-marketing", {"bank-full.csv": None}
    ),
    "elec2": Source(
        "https://sourceforge.net/projects/moa-datastream/files/Datasets/Classification/elecNormNew.arff.zip/download",
        "elec2",
        {"elecNormNew.arff": None},
    ),
}


def download(name: str, folder: str | Path, url: str | None = None) -> Path:
    """Fetch a data set into a sub-folder of `folder` and return it; nothing is fetched when it is already there.

    `name` is "movielens-1m", "movielens-100k", "bank-marketing" or "elec2"; `url` (https or file) replaces the owner's
    address. Each file with a known SHA-256 is checked; files appear only after all are in order. By fetching you accept
    the owner's licence, named in the docstring of the loader.

    Raises `ConfigError` for another name or kind of address, `StateError` when the address does not answer, the archive
    lacks a file, or a checksum differs.

    >>> download("movielens-2m", "data")
    Traceback (most recent call last):
        ...
    nearline._errors.ConfigError: no data set 'movielens-2m'; choose bank-marketing, elec2, movielens-100k, movielens-1m
    """
    if name not in SOURCES:
        raise ConfigError(f"no data set {name!r}; choose {', '.join(sorted(SOURCES))}")
    source = SOURCES[name]
    return fetch(source if url is None else Source(url, source.folder, source.files), Path(folder))


def fetch(source: Source, root: Path) -> Path:
    """Fetch, check and unpack one source below `root`."""
    target = root / source.folder
    if all(_in_order(target / file, digest) for file, digest in source.files.items()):
        return target
    if urllib.parse.urlsplit(source.url).scheme not in ("https", "file"):
        raise ConfigError(f"download takes https and file addresses; got {source.url!r}")
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root) as temporary:
        archive = _retrieve(source.url, Path(temporary) / "archive.zip")
        unpacked = [_unpack(archive, file, digest, source.url) for file, digest in source.files.items()]
        target.mkdir(exist_ok=True)
        for path in unpacked:
            path.replace(target / path.name)
    return target


def _in_order(path: Path, digest: str | None) -> bool:
    return path.is_file() and (digest is None or hashlib.sha256(path.read_bytes()).hexdigest() == digest)


def _retrieve(url: str, path: Path) -> Path:
    try:
        with urllib.request.urlopen(url, timeout=60) as response, path.open("wb") as file:
            shutil.copyfileobj(response, file)
    except (urllib.error.URLError, OSError) as problem:
        raise StateError(f"cannot fetch {url}: {problem}; fetch it by hand and unpack it") from problem
    return path


def _unpack(archive: Path, file: str, digest: str | None, url: str) -> Path:
    try:
        with zipfile.ZipFile(archive) as opened:
            content = _member(opened, file)
    except zipfile.BadZipFile as problem:
        raise StateError(f"{url} is not a zip archive: {problem}") from problem
    if content is None:
        raise StateError(f"the archive at {url} has no {file}")
    if digest is not None and hashlib.sha256(content).hexdigest() != digest:
        raise StateError(f"{file} from {url} has another SHA-256 than expected; it was altered or cut short")
    path = archive.parent / file
    path.write_bytes(content)
    return path


def _member(archive: zipfile.ZipFile, file: str) -> bytes | None:
    """Content of a file anywhere in the archive, also in an archive within it (UCI packs them so)."""
    names = archive.namelist()
    for name in names:
        if Path(name).name == file:
            return archive.read(name)
    for name in names:
        if name.endswith(".zip"):
            with zipfile.ZipFile(io.BytesIO(archive.read(name))) as inner:
                content = _member(inner, file)
            if content is not None:
                return content
    return None
