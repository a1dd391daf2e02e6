"""Where a data set is looked for, and what is said of missing and damaged files."""

from __future__ import annotations

import pytest
from tests.datasets.parts import LOADERS, USERS, original_1m, write

from nearline import _errors, datasets


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
    original_1m(tmp_path / "ml-1m")
    monkeypatch.setenv("NEARLINE_DATA", str(tmp_path))
    assert datasets.movielens_1m().num_rows == 5


def test_damaged_files_are_state_errors(tmp_path):
    original_1m(tmp_path)
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
    original_1m(tmp_path)
    write(tmp_path / "users.dat", USERS[:1], "::")
    with pytest.raises(_errors.DataError, match="user_id"):
        datasets.movielens_1m(tmp_path)
