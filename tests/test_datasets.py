"""Every accepted layout, rebuilt where possible into the bytes of the original and checked against their digests.

The real data are not part of the repository: tests that need them skip without NEARLINE_DATA.
"""

from __future__ import annotations

import hashlib
import os
import time
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from nearline import _errors, datasets
from nearline.datasets import _download
from nearline.datasets._download import SOURCES, Source, fetch

DATA = Path(os.environ.get("NEARLINE_DATA", ""))


def _needs(name: str) -> pytest.MarkDecorator:
    present = "NEARLINE_DATA" in os.environ and (DATA / name).is_dir()
    return pytest.mark.skipif(not present, reason=f"needs {name} in the folder that NEARLINE_DATA names")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(path: Path, rows: list[tuple[object, ...]], separator: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(separator.join(str(cell) for cell in row) + "\n" for row in rows)
    path.write_bytes(text.encode("latin-1"))
    return path


def _zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def _rows(path: Path, *columns: str) -> list[tuple[object, ...]]:
    table = pq.read_table(path)
    return list(zip(*(table[name].to_pylist() for name in columns)))


# ---------------------------------------------------------------------------------------------- small files made here

RATINGS = [(2, 10, 5, 300), (1, 20, 3, 100), (1, 10, 4, 200), (2, 20, 2, 100), (2, 30, 1, 100)]
MOVIES = [(10, "Misérables, Les (1995)", "Drama|Musical"), (20, "M (1931)", "Crime"), (30, 'Say "Hi" (2000)', "Comedy")]
USERS = [(1, "F", 1, 10, "48067"), (2, "M", 56, 16, "7-0072")]
ITEM_FLAGS = {10: {8, 12}, 20: {0}, 30: set()}


def _original_1m(folder: Path) -> None:
    _write(folder / "ratings.dat", RATINGS, "::")
    _write(folder / "users.dat", USERS, "::")
    _write(folder / "movies.dat", MOVIES, "::")


def _original_100k(folder: Path) -> None:
    _write(folder / "u.data", RATINGS, "\t")
    _write(folder / "u.user", [(1, 24, "F", "writer", "T8H1N"), (2, 53, "M", "other", "94043")], "|")
    dates = {10: "04-Feb-1995", 20: "4-Feb-1931", 30: ""}
    items = [
        (i, title, dates[i], "", "http://x/?a|b".replace("|", "%7C"), *(int(k in ITEM_FLAGS[i]) for k in range(19)))
        for i, title, _ in MOVIES
    ]
    _write(folder / "u.item", items, "|")


@pytest.mark.parametrize("sub", ["", "ml-1m", "movielens-1m"])
def test_movielens_1m_from_the_original_archive(tmp_path, sub):
    _original_1m(tmp_path / sub)
    table = datasets.movielens_1m(tmp_path)
    assert table["timestamp"].to_pylist() == [100, 100, 100, 200, 300]
    assert table["movie_id"].to_pylist() == [20, 20, 30, 10, 10]  # equal times keep the order of the file
    assert table["user_id"].to_pylist() == [1, 2, 2, 1, 2]
    assert table["liked"].to_pylist() == [0, 0, 0, 1, 1]
    assert table["genres"].to_pylist()[-1] == ["Drama", "Musical"]
    assert table["title"].to_pylist()[2:4] == ['Say "Hi" (2000)', "Misérables, Les (1995)"]
    assert table["year"].to_pylist() == [1931, 1931, 2000, 1995, 1995]
    assert table["gender"].to_pylist() == ["F", "M", "M", "F", "M"]
    assert table["age"].to_pylist() == [1, 56, 56, 1, 56]
    assert table["timestamp_known"].to_pylist() == [True] * 5


def test_no_threes_drops_rating_three_only(tmp_path):
    _original_1m(tmp_path)
    table = datasets.movielens_1m(tmp_path, ratings="no_threes")
    assert table["rating"].to_pylist() == [2, 1, 4, 5]
    assert "timestamp_known" not in table.column_names
    with pytest.raises(_errors.ConfigError, match="no_threes"):
        datasets.movielens_1m(tmp_path, ratings="some")


def test_a_filled_time_is_marked_as_not_known(tmp_path):
    ratings = {
        "user_id": pa.array([1, 1], pa.int32()), "movie_id": pa.array([10, 20], pa.int32()),
        "rating": pa.array([3, 5], pa.int8()), "timestamp": pa.array([None, 7], pa.int64()),
        "timestamp_filled": pa.array([9, 7], pa.int64()), "timestamp_known": pa.array([False, True]),
    }  # fmt: skip
    users = {"user_id": pa.array([1], pa.int32()), "gender": ["F"], "age": pa.array([1], pa.int8())}
    users |= {"occupation": pa.array([2], pa.int8()), "zip_code": ["1"]}
    movies = {
        "movie_id": pa.array([10, 20], pa.int32()),
        "title": ["A (1999)", "B (2000)"],
        "genres": ["War", "War|Drama"],
    }
    for name, columns in (("ratings", ratings), ("users", users), ("movies", movies)):
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    table = datasets.movielens_1m(tmp_path)
    assert table["timestamp"].to_pylist() == [7, 9]
    assert table["timestamp_known"].to_pylist() == [True, False]


@pytest.mark.parametrize("sub", ["", "ml-100k", "movielens-100k"])
def test_movielens_100k_from_the_original_archive(tmp_path, sub):
    _original_100k(tmp_path / sub)
    table = datasets.movielens_100k(tmp_path)
    assert table["movie_id"].to_pylist() == [20, 20, 30, 10, 10]
    assert table["genres"].to_pylist() == [["unknown"], ["unknown"], [], ["Drama", "Musical"], ["Drama", "Musical"]]
    assert table["year"].to_pylist() == [1931, 1931, None, 1995, 1995]
    assert table["occupation"].to_pylist() == ["writer", "other", "other", "writer", "other"]
    assert table["age"].to_pylist() == [24, 53, 53, 24, 53]
    assert datasets.movielens_100k(tmp_path, ratings="no_threes").num_rows == 4


BANK_HEAD = (
    '"age";"job";"marital";"education";"default";"balance";"housing";"loan";"contact";"day";"month";"duration";'
    '"campaign";"pdays";"previous";"poutcome";"y"\n'
)


def _bank_row(day: int, month: str, y: str) -> str:
    start = '58;"blue-collar";"single";"tertiary";"no";-21;"yes";"no";"unknown"'
    return f'{start};{day};"{month}";261;1;-1;0;"unknown";"{y}"\n'


@pytest.mark.parametrize("sub", ["", "bank-marketing", "bank"])
def test_bank_marketing_from_ucis_file(tmp_path, sub):
    (tmp_path / sub).mkdir(exist_ok=True)
    rows = [
        _bank_row(5, "may", "no"),
        _bank_row(31, "dec", "yes"),
        _bank_row(2, "jan", "no"),
        _bank_row(1, "apr", "yes"),
    ]
    (tmp_path / sub / "bank-full.csv").write_text(BANK_HEAD + "".join(rows))
    table = datasets.bank_marketing(tmp_path)
    assert [str(day) for day in table["date_derived"].to_pylist()] == [
        "2008-05-05",
        "2008-12-31",
        "2009-01-02",
        "2009-04-01",
    ]
    assert table["timestamp"].to_pylist()[0] == 1_209_945_600
    assert table["y"].to_pylist() == [0, 1, 0, 1]
    assert table["balance"].to_pylist() == [-21] * 4
    assert table["job"].to_pylist() == ["blue-collar"] * 4


@pytest.mark.parametrize(("file", "quote"), [("elecNormNew.arff", ""), ("electricity-normalized.arff", "'")])
def test_elec2_from_arff(tmp_path, file, quote):
    text = (
        "% a comment\n@relation electricity\n\n@attribute date numeric\n@attribute day {1,2,3,4,5,6,7}\n@Data\n"
        f"0,{quote}2{quote},0,0.056443,0.439155,0.003467,0.422915,0.414912,UP\n"
        f"0,{quote}2{quote},0.021277,0.051699,0.415055,0.003467,0.422915,0.414912,DOWN\n"
    )
    (tmp_path / file).write_text(text)
    table = datasets.elec2(tmp_path)
    assert table["class_up"].to_pylist() == [1, 0]
    assert table["day"].to_pylist() == [2, 2]
    assert table["nswdemand"].to_pylist() == [0.439155, 0.415055]
    assert np.datetime64(table["timestamp"][1].as_py(), "s") == np.datetime64("1996-05-07T00:30")


# ------------------------------------------------------------------------------------------------- what can go wrong

LOADERS = {
    "movielens-1m": datasets.movielens_1m,
    "movielens-100k": datasets.movielens_100k,
    "bank-marketing": datasets.bank_marketing,
    "elec2": datasets.elec2,
}


@pytest.mark.parametrize("name", LOADERS)
def test_a_missing_data_set_says_where_it_looked_and_how_to_get_it(tmp_path, monkeypatch, name):
    with pytest.raises(_errors.StateError) as caught:
        LOADERS[name](tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert f'nearline.datasets.download("{name}", folder)' in str(caught.value)
    monkeypatch.delenv("NEARLINE_DATA", raising=False)
    with pytest.raises(_errors.StateError, match="NEARLINE_DATA is not set"):
        LOADERS[name]()
    monkeypatch.setenv("NEARLINE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(_errors.StateError, match="nowhere"):
        LOADERS[name]()


def test_the_environment_variable_names_the_folder(tmp_path, monkeypatch):
    _original_1m(tmp_path / "ml-1m")
    monkeypatch.setenv("NEARLINE_DATA", str(tmp_path))
    assert datasets.movielens_1m().num_rows == 5


def test_damaged_files_are_state_errors(tmp_path):
    _original_1m(tmp_path)
    whole = (tmp_path / "ratings.dat").read_bytes()
    (tmp_path / "ratings.dat").write_bytes(whole[: -len("::100\n")])
    with pytest.raises(_errors.StateError, match=r"ratings\.dat is damaged"):
        datasets.movielens_1m(tmp_path)
    (tmp_path / "bank-full.csv").write_text("age,job\n1,2\n")
    with pytest.raises(_errors.StateError, match=r"columns of bank-full\.csv"):
        datasets.bank_marketing(tmp_path)
    (tmp_path / "elecNormNew.arff").write_text("@relation x\n")
    with pytest.raises(_errors.StateError, match="no @data"):
        datasets.elec2(tmp_path)


def test_a_rating_without_its_user_is_a_data_error(tmp_path):
    _original_1m(tmp_path)
    _write(tmp_path / "users.dat", USERS[:1], "::")
    with pytest.raises(_errors.DataError, match="user_id"):
        datasets.movielens_1m(tmp_path)


# --------------------------------------------------------------------------------------------------------- download


def _source(tmp_path: Path, files: dict[str, bytes], wanted: dict[str, str | None]) -> Source:
    return Source(_zip(tmp_path / "archive.zip", files).as_uri(), "ml-1m", wanted)


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
    inner = _zip(tmp_path / "bank.zip", {"bank-full.csv": (BANK_HEAD + _bank_row(5, "may", "yes")).encode()})
    other = _zip(tmp_path / "bank-additional.zip", {"bank-additional/bank-additional.csv": b"x"})
    outer = _zip(tmp_path / "outer.zip", {path.name: path.read_bytes() for path in (other, inner)})
    place = datasets.download("bank-marketing", tmp_path / "data", url=outer.as_uri())
    assert datasets.bank_marketing(tmp_path / "data").num_rows == 1
    assert datasets.bank_marketing(place)["y"].to_pylist() == [1]


def test_download_refuses_names_it_does_not_know_and_other_content(tmp_path):
    with pytest.raises(_errors.ConfigError, match="choose bank-marketing"):
        datasets.download("movielens-2m", tmp_path)
    _original_1m(tmp_path / "made")
    files = {f"ml-1m/{path.name}": path.read_bytes() for path in (tmp_path / "made").iterdir()}
    archive = _zip(tmp_path / "ml-1m.zip", files)
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


# ------------------------------------------------------------------------------------------------------ the real data


@_needs("movielens-1m")
def test_movielens_1m_has_the_published_counts():
    start = time.process_time()
    table = datasets.movielens_1m()
    assert time.process_time() - start < 3
    counts = np.bincount(table["rating"].to_numpy())
    assert counts.tolist() == [0, 56_174, 107_557, 261_197, 348_971, 226_310]
    assert np.bincount(table["timestamp_known"].to_numpy()).tolist() == [130_860, 869_349]
    stamp = table["timestamp"].to_numpy()
    assert (np.diff(stamp) >= 0).all()
    assert (stamp[0], stamp[-1]) == (956_703_932, 1_046_454_590)
    assert pc.count_distinct(table["user_id"]).as_py() == 6_040
    assert pc.count_distinct(table["movie_id"]).as_py() == 3_706
    assert pc.min_max(table["year"]).as_py() == {"min": 1919, "max": 2000}
    assert sum(table.column(name).null_count for name in table.column_names) == 0


@_needs("movielens-1m")
def test_movielens_1m_without_threes_is_739012_exact_events():
    table = datasets.movielens_1m(ratings="no_threes")
    assert table.num_rows == 739_012
    assert table["liked"].to_numpy().sum() == 348_971 + 226_310
    raw = pq.read_table(DATA / "movielens-1m" / "ratings.parquet").filter(pc.field("rating") != 3)
    assert raw["timestamp"].null_count == 0
    order = np.argsort(raw["timestamp"].to_numpy(), kind="stable")
    for name in ("user_id", "movie_id", "timestamp"):
        np.testing.assert_array_equal(table[name].to_numpy(), raw[name].to_numpy()[order])
    last = table["timestamp"].to_numpy() >= 975_768_738
    assert 0.1 < last.mean() < 0.3


@pytest.fixture(scope="module")
def rebuilt_1m(tmp_path_factory) -> Path:
    """The three files of ml-1m, written from the Parquet copy."""
    source, folder = DATA / "movielens-1m", tmp_path_factory.mktemp("rebuilt") / "ml-1m"
    ratings = _rows(source / "ratings.parquet", "user_id", "movie_id", "rating", "timestamp_filled")
    _write(folder / "ratings.dat", ratings, "::")
    _write(
        folder / "users.dat",
        _rows(source / "users.parquet", "user_id", "gender", "age", "occupation", "zip_code"),
        "::",
    )
    _write(folder / "movies.dat", _rows(source / "movies.parquet", "movie_id", "title", "genres"), "::")
    return folder


@_needs("movielens-1m")
def test_the_original_files_of_movielens_1m_give_the_same_table(rebuilt_1m):
    digests = SOURCES["movielens-1m"].files
    assert _digest(rebuilt_1m / "users.dat") == digests["users.dat"]
    assert _digest(rebuilt_1m / "movies.dat") == digests["movies.dat"]
    start = time.process_time()
    table = datasets.movielens_1m(rebuilt_1m, ratings="no_threes")
    assert time.process_time() - start < 3
    assert table.equals(datasets.movielens_1m(ratings="no_threes"))
    everything = datasets.movielens_1m(rebuilt_1m).drop_columns("timestamp_known")
    assert everything.equals(datasets.movielens_1m().drop_columns("timestamp_known"))


@_needs("movielens-1m")
def test_download_accepts_the_real_files_of_movielens_1m(rebuilt_1m, tmp_path):
    files = {f"ml-1m/{path.name}": path.read_bytes() for path in rebuilt_1m.iterdir()}
    files["ml-1m/README"] = (DATA / "movielens-1m" / "README.grouplens.txt").read_bytes()
    archive = _zip(tmp_path / "ml-1m.zip", files)
    place = datasets.download("movielens-1m", tmp_path / "data", url=archive.as_uri())
    assert {path.name: _digest(path) for path in place.iterdir() if path.name != "ratings.dat"} == {
        name: digest for name, digest in _download.SOURCES["movielens-1m"].files.items() if digest
    }
    assert datasets.movielens_1m(tmp_path / "data", ratings="no_threes").num_rows == 739_012


@_needs("movielens-100k")
def test_movielens_100k_has_the_published_counts():
    table = datasets.movielens_100k()
    assert np.bincount(table["rating"].to_numpy()).tolist() == [0, 6_110, 11_370, 27_145, 34_174, 21_201]
    assert (np.diff(table["timestamp"].to_numpy()) >= 0).all()
    assert pc.count_distinct(table["movie_id"]).as_py() == 1_682
    assert len({genre for held in table["genres"].to_pylist() for genre in held}) == 19
    missing = table.filter(pc.is_null(table["year"]))
    assert set(missing["title"].to_pylist()) == {"unknown"}


@_needs("movielens-100k")
def test_the_original_files_of_movielens_100k_give_the_same_table(tmp_path):
    source = DATA / "movielens-100k"
    _write(tmp_path / "u.data", _rows(source / "ratings.parquet", "user_id", "item_id", "rating", "timestamp"), "\t")
    user = ("user_id", "age", "gender", "occupation", "zip_code")
    _write(tmp_path / "u.user", _rows(source / "users.parquet", *user), "|")
    genres = datasets._movielens._GENRES
    items = [
        (number, title, released, "", "", *(int(name in held.split("|")) for name in genres))
        for number, title, released, held in _rows(
            source / "items.parquet", "item_id", "title", "release_date", "genres"
        )
    ]
    _write(tmp_path / "u.item", items, "|")
    for name in ("u.data", "u.user"):
        assert _digest(tmp_path / name) == SOURCES["movielens-100k"].files[name]
    assert datasets.movielens_100k(tmp_path).equals(datasets.movielens_100k())


@_needs("bank-marketing")
def test_bank_marketing_has_the_published_counts_and_drift():
    table = datasets.bank_marketing()
    y, stamp = table["y"].to_numpy(), table["timestamp"].to_numpy()
    assert (len(y), y.sum()) == (45_211, 5_289)
    assert (np.diff(stamp) >= 0).all()
    year = np.array([day.year for day in table["date_derived"].to_pylist()])
    assert [round(float(y[year == k].mean()), 3) for k in (2008, 2009, 2010)] == [0.051, 0.171, 0.516]
    # the date is derived here anew and must be that of the copy
    copy = pq.read_table(DATA / "bank-marketing" / "bank_full.parquet")
    assert table["date_derived"].to_pylist() == copy["date_derived"].to_pylist()


@_needs("bank-marketing")
def test_ucis_layout_of_bank_marketing_gives_the_same_table(tmp_path):
    table = datasets.bank_marketing()
    names = [name.strip('"') for name in BANK_HEAD.strip().split(";")]
    columns = [table[name].to_pylist() for name in names]
    columns[-1] = ["yes" if y else "no" for y in columns[-1]]
    rows = [";".join(f'"{cell}"' if isinstance(cell, str) else str(cell) for cell in row) for row in zip(*columns)]
    (tmp_path / "bank-full.csv").write_text(BANK_HEAD + "\n".join(rows) + "\n")
    assert datasets.bank_marketing(tmp_path).equals(table)


@_needs("elec2")
def test_elec2_has_the_published_counts_and_the_arff_gives_the_same_table(tmp_path):
    table = datasets.elec2()
    assert np.bincount(table["class_up"].to_numpy()).tolist() == [26_075, 19_237]
    stamp = table["timestamp"].to_numpy()
    weekday = (stamp // 86_400 + 3) % 7 + 1  # 1970-01-01 was a Thursday
    np.testing.assert_array_equal(weekday, table["day"].to_numpy())
    names = table.column_names[1:-1]
    rows = [(*row, "UP" if up else "DOWN") for *row, up in zip(*(table[n].to_pylist() for n in [*names, "class_up"]))]
    _write(tmp_path / "elecNormNew.arff", [("@relation x",), ("@data",), *rows], ",")
    assert datasets.elec2(tmp_path).equals(table)
