"""Elec2: the ARFF file, and the published counts."""

from __future__ import annotations

import numpy as np
import pytest
from tests.datasets.parts import needs, write

from nearline import datasets


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


@needs("elec2")
def test_elec2_has_the_published_counts_and_the_arff_gives_the_same_table(tmp_path):
    table = datasets.elec2()
    assert np.bincount(table["class_up"].to_numpy()).tolist() == [26_075, 19_237]
    stamp = table["timestamp"].to_numpy()
    weekday = (stamp // 86_400 + 3) % 7 + 1  # 1970-01-01 was a Thursday
    np.testing.assert_array_equal(weekday, table["day"].to_numpy())
    names = table.column_names[1:-1]
    rows = [(*row, "UP" if up else "DOWN") for *row, up in zip(*(table[n].to_pylist() for n in [*names, "class_up"]))]
    write(tmp_path / "elecNormNew.arff", [("@relation x",), ("@data",), *rows], ",")
    assert datasets.elec2(tmp_path).equals(table)
