"""Downloads: only the wanted files, and only with the right digests."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest
from tests.datasets.parts import BANK_HEAD, DATA, LOADERS, bank_row, digest_of, needs, original_1m

from nearline import _errors, datasets
from nearline.datasets import _download
from nearline.datasets._download import SOURCES, Source, fetch


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def _source(tmp_path: Path, files: dict[str, bytes], wanted: dict[str, str | None]) -> Source:
    return Source(zipped(tmp_path / "archive.zip", files).as_uri(), "ml-1m", wanted)


def test_fetch_unpacks_the_wanted_files_and_checks_them(tmp_path):
    content = {"ml-1m/ratings.dat": b"1::10::5::7\n", "ml-1m/users.dat": b"1::F::1::2::3\n", "ml-1m/notes.txt": b"x"}
    wanted = {"ratings.dat": None, "users.dat": hashlib.sha256(content["ml-1m/users.dat"]).hexdigest()}
    target = fetch(_source(tmp_path, content, wanted), tmp_path / "new" / "data")
    assert target == tmp_path / "new" / "data" / "ml-1m"
    assert {path.name for path in target.iterdir()} == {"ratings.dat", "users.dat"}
    assert (target / "ratings.dat").read_bytes() == b"1::10::5::7\n"
    assert [path.name for path in target.parent.iterdir()] == ["ml-1m"]  # no temporary file is left


def test_fetch_refuses_an_altered_file_and_writes_nothing(tmp_path):
    wanted = {"ratings.dat": None, "users.dat": "0" * 64}
    source = _source(tmp_path, {"ratings.dat": b"1", "users.dat": b"altered"}, wanted)
    with pytest.raises(_errors.StateError, match=r"users\.dat .* SHA-256"):
        fetch(source, tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_fetch_does_nothing_when_the_files_are_in_order_and_repairs_them_when_not(tmp_path):
    wanted = {"users.dat": hashlib.sha256(b"right").hexdigest()}
    target = fetch(_source(tmp_path, {"users.dat": b"right"}, wanted), tmp_path)
    gone = Source((tmp_path / "gone.zip").as_uri(), "ml-1m", wanted)
    assert fetch(gone, tmp_path) == target
    (target / "users.dat").write_bytes(b"wrong")
    with pytest.raises(_errors.StateError, match="cannot fetch"):
        fetch(gone, tmp_path)
    fetch(_source(tmp_path, {"users.dat": b"right"}, wanted), tmp_path)
    assert (target / "users.dat").read_bytes() == b"right"


def test_fetch_names_what_is_wrong_with_an_archive(tmp_path):
    with pytest.raises(_errors.StateError, match=r"has no users\.dat"):
        fetch(_source(tmp_path, {"a": b""}, {"users.dat": None}), tmp_path)
    (tmp_path / "text.zip").write_text("not an archive")
    with pytest.raises(_errors.StateError, match="not a zip archive"):
        fetch(Source((tmp_path / "text.zip").as_uri(), "x", {"a": None}), tmp_path)
    with pytest.raises(_errors.ConfigError, match="https"):
        fetch(Source("http://example.org/a.zip", "x", {"a": None}), tmp_path)


def test_download_finds_the_bank_file_in_the_archive_within_the_archive(tmp_path):
    inner = zipped(tmp_path / "bank.zip", {"bank-full.csv": (BANK_HEAD + bank_row(5, "may", "yes")).encode()})
    other = zipped(tmp_path / "bank-additional.zip", {"bank-additional/bank-additional.csv": b"x"})
    outer = zipped(tmp_path / "outer.zip", {path.name: path.read_bytes() for path in (other, inner)})
    place = datasets.download("bank-marketing", tmp_path / "data", url=outer.as_uri())
    assert datasets.bank_marketing(tmp_path / "data").num_rows == 1
    assert datasets.bank_marketing(place)["y"].to_pylist() == [1]


def test_download_refuses_names_it_does_not_know_and_other_content(tmp_path):
    with pytest.raises(_errors.ConfigError, match="choose bank-marketing"):
        datasets.download("movielens-2m", tmp_path)
    original_1m(tmp_path / "made")
    files = {f"ml-1m/{path.name}": path.read_bytes() for path in (tmp_path / "made").iterdir()}
    archive = zipped(tmp_path / "ml-1m.zip", files)
    with pytest.raises(_errors.StateError, match="SHA-256"):
        datasets.download("movielens-1m", tmp_path / "data", url=archive.as_uri())


@pytest.mark.parametrize("name", LOADERS)
def test_addresses_are_https_and_files_are_those_the_loader_wants(tmp_path, name):
    source = SOURCES[name]
    assert source.url.startswith("https://")
    for file in source.files:
        (tmp_path / source.folder).mkdir(exist_ok=True)
        (tmp_path / source.folder / file).write_bytes(b"")
    with pytest.raises(_errors.StateError, match="fetch it again"):  # found, and empty
        LOADERS[name](tmp_path)


@needs("movielens-1m")
def test_download_accepts_the_real_files_of_movielens_1m(rebuilt_1m, tmp_path):
    files = {f"ml-1m/{path.name}": path.read_bytes() for path in rebuilt_1m.iterdir()}
    files["ml-1m/README"] = (DATA / "movielens-1m" / "README.grouplens.txt").read_bytes()
    archive = zipped(tmp_path / "ml-1m.zip", files)
    place = datasets.download("movielens-1m", tmp_path / "data", url=archive.as_uri())
    assert {path.name: digest_of(path) for path in place.iterdir() if path.name != "ratings.dat"} == {
        name: digest for name, digest in _download.SOURCES["movielens-1m"].files.items() if digest
    }
    assert datasets.movielens_1m(tmp_path / "data", ratings="no_threes").num_rows == 739_012
