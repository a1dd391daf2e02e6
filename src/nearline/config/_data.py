"""`[data]` turned into one Arrow table: files by path or pattern, or a data set by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from nearline._errors import ConfigError, DataError
from nearline.config._tables import DataTable

FORMATS = {
    ".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".arrow": "ipc", ".feather": "ipc", ".ipc": "ipc",
}  # fmt: skip


def read(data: DataTable, base: Path) -> pa.Table:
    """The first `rows` rows of what `[data]` names; paths are relative to `base`.

    Raises
    ------
    ConfigError
        Neither or both of `path` and `dataset`, or no file of that name.
    DataError
        A file is not what its ending says, or the files have columns of different types.
    """
    if (data.path is None) == (data.dataset is None):
        raise ConfigError("[data]: give either path (files) or dataset (a name)")
    if data.rows is not None and data.rows < 1:
        raise ConfigError(f"[data] rows: must be at least 1, got {data.rows}")
    if data.path is not None:
        table = read_files((data.path,) if isinstance(data.path, str) else data.path, base)
    else:
        table = _dataset(data, base)
    return table.slice(0, data.rows)


def read_files(patterns: Sequence[str], base: Path) -> pa.Table:
    """All files that the patterns match, one after the other: in the order given, by name within a pattern."""
    tables = [_read_file(path) for pattern in patterns for path in _matches(pattern, base)]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(f"the files differ in their columns: {error}", fix="write them with one schema") from error


def _matches(pattern: str, base: Path) -> list[Path]:
    path = (base / Path(pattern).expanduser()).absolute()
    if path.is_file():  # also one with a bracket in its name
        return [path]
    found = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    if not found:
        raise ConfigError(f"no file matches {pattern!r} in {base.resolve()}")
    return found


def _read_file(path: Path) -> pa.Table:
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ConfigError(f"{path} ends in {path.suffix!r}; known endings are {', '.join(FORMATS)}")
    try:
        return _READERS[kind](path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"cannot read {path} as {kind}: {error}", fix="check the file and its ending") from error


def _parquet(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(path)


def _csv(path: Path) -> pa.Table:
    import pyarrow.csv

    return pyarrow.csv.read_csv(path)


def _ipc(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        if source.read(6) == b"ARROW1":
            return pa.ipc.open_file(source).read_all()
        source.seek(0)
        return pa.ipc.open_stream(source).read_all()


_READERS: dict[str, Callable[[Path], pa.Table]] = {"parquet": _parquet, "csv": _csv, "ipc": _ipc}


def _dataset(data: DataTable, base: Path) -> pa.Table:
    from nearline import datasets, simulate

    folder = base / Path(data.folder).expanduser() if data.folder is not None else None
    if data.dataset == "marketplace":
        # asdict gives nothing when the table is absent: the simulator's own defaults hold then.
        given: dict[str, Any] = msgspec.structs.asdict(data.marketplace) if data.marketplace else {}
        return simulate.stream(simulate.Marketplace(**given))
    if data.dataset == "movielens-1m":
        return datasets.movielens_1m(folder, data.ratings)
    if data.dataset == "movielens-100k":
        return datasets.movielens_100k(folder, data.ratings)
    return datasets.bank_marketing(folder) if data.dataset == "bank-marketing" else datasets.elec2(folder)
