"""Features of crops that another tool computed: read from its file, and matched by name.

Nothing in a file is run or followed: no pickle, no link or external storage of HDF5.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from stages.base.errors import UserError, one_line, refuse
from stages.base.parameters import quoted
from stages.intake.labels import NAME_COLUMNS
from stages.intake.names import Names
from stages.intake.tables import read_laboratory_table

SUFFIXES, TABLES = (".h5", ".npy", ".parquet"), (".csv", ".xlsx")
ARRAYS, NAMES = ("features", "embeddings"), (*NAME_COLUMNS, "names", "paths")
PICKLES = (".pt", ".pth", ".pkl", ".pickle")
SHOWN = 3


def find_embeddings(source: Path, dataset: str) -> Path:
    """Return what holds the features of a dataset: `source` if it is a file, or else the file or
    folder in it that is named after the dataset.

    Raises:
        UserError: no file fits, or several do.
    """
    if source.suffix.lower() == ".npy":
        folder = source.with_suffix("")
        raise UserError(
            f"{source}: the table with its names would be no dependency; put both into a folder, "
            f"{folder}/{dataset}.npy and {folder}/{dataset}.csv"
        )
    if source.is_file():
        return source
    if not source.is_dir():
        raise UserError(f"{source} does not exist; it must be a file or folder of features")
    found = [
        path
        for path in sorted(source.iterdir())
        if (path.name if path.is_dir() else path.stem) == dataset
        and (path.is_dir() or path.suffix.lower() in SUFFIXES)
    ]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none of them"
        wanted = ", ".join(f"{dataset}{suffix}" for suffix in SUFFIXES)
        raise UserError(f"{source} must hold one of {wanted} or {dataset}/; it holds {names}")
    return found[0]


def match_embeddings(
    file: Path,
    paths: Sequence[str],
    where: object,
    length: int | None = None,
    left_out: Iterable[str] = (),
) -> np.ndarray:
    """Return the features of crops, float32 (n, D), in the order of `paths`.

    A row names a crop as a row of a table of labels does, or without the suffix of the image.

    Args:
        file: of one dataset; or a folder with an .h5 or .npy file for each crop.
        paths: of the crops, all of which must have a row.
        where: where the crops are, for messages.
        length: D; None for any.
        left_out: crops that may have a row, which is ignored.

    Raises:
        UserError: the file is damaged, its numbers are not finite floats, crops and rows do not
            match, or D is another.
    """
    names, features = _read(file)
    _check(file, names, features, length)
    of_paths = Names([*paths, *left_out], where, what="crops")
    of_stem = defaultdict(list)
    for path in of_paths.paths:
        of_stem[str(PurePosixPath(path).with_suffix(""))].append(path)
    stems = Names(of_stem, where)
    rows: dict[str, int] = {}
    surplus, twice = [], []
    for row, name in enumerate(names):
        found = of_paths.find(name) or [one for stem in stems.find(name) for one in of_stem[stem]]
        if len(found) != 1:
            problem = f"{quoted(name)} matches {', '.join(found)}" if found else ""
            surplus.append(problem or of_paths.problem(name))
        elif rows.setdefault(found[0], row) != row:
            twice.append(found[0])
    missing = [path for path in paths if path not in rows]
    problems = []
    if twice:
        problems.append(f"{len(twice)} crops have several rows: {_some(twice)}; keep one of each")
    if surplus:
        said = f"{len(surplus)} of {len(names)} rows name no single crop: {surplus[0]}"
        problems.append(f"{said}; remove rows of other crops")
    if missing:
        problems.append(f"no row for {len(missing)} of {len(paths)} crops: {_some(missing)}")
    refuse(f"{file}: {problem}" for problem in problems)
    return features[[rows[path] for path in paths]]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + ", ..." * (len(names) > SHOWN)


def _check(file: Path, names: Sequence[str], features: np.ndarray, length: int | None) -> None:
    """Raise `UserError` for anything but one vector of finite numbers per name."""
    if features.ndim != 2 or features.shape[1] == 0:
        raise UserError(f"{file}: features of shape {features.shape}; it must be (crops, features)")
    if len(names) != len(features):
        raise UserError(f"{file}: {len(features)} rows of features, but {len(names)} names")
    if length not in (None, features.shape[1]):
        raise UserError(
            f"{file}: {features.shape[1]} features per crop; the model was trained on {length}"
        )
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    zero = np.flatnonzero(~features.any(axis=1))
    for rows, what in ((bad, "NaN or infinity"), (zero, "only zeros, as if never computed")):
        if len(rows):
            raise UserError(
                f"{file}: {len(rows)} rows hold {what}, such as that of {names[rows[0]]}"
            )


def _read(file: Path) -> tuple[list[str], np.ndarray]:
    """Return the names in a file or folder, and float32 features, one row for each."""
    if not file.exists():
        raise UserError(f"{file} does not exist")
    if file.is_dir():
        return _of_folder(file)
    match file.suffix.lower():
        case ".h5":
            arrays = _of_h5(file)
            features = _one(file, arrays, ARRAYS)
            names = np.ravel(_one(file, arrays, NAMES)).tolist()
        case ".npy":
            names, features = _table_beside(file), _of_npy(file)
        case ".parquet":
            names, features = _of_parquet(file)
        case _:
            raise _unreadable(file)
    return names, _as_float32(file, features)


def _unreadable(file: Path) -> UserError:
    why = "a pickle can run code, so it is never read" if file.suffix in PICKLES else "not read"
    return UserError(
        f"{file}: {why}; convert it to {', '.join(SUFFIXES)} (docs/encoders.md says how)"
    )


def _of_folder(folder: Path) -> tuple[list[str], np.ndarray]:
    """Return the features in a folder that holds a file for each crop, named after it."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    read = [file for file in files if file.suffix.lower() in (".h5", ".npy")]
    if not read:
        raise _unreadable(files[0]) if files else UserError(f"{folder}: it holds no file")
    vectors = []
    for file in read:
        array = _of_npy(file) if file.suffix.lower() == ".npy" else _one(file, _of_h5(file), ARRAYS)
        if array.ndim == 0 or array.size != array.shape[-1]:
            raise UserError(
                f"{file}: features of shape {array.shape}; in a folder, each file must hold one "
                "vector, of the crop that it is named after"
            )
        vectors.append(_as_float32(file, array.ravel()))
    refuse(
        f"{file}: {len(vector)} features, but {len(vectors[0])} in {read[0].name}"
        for file, vector in zip(read, vectors)
        if len(vector) != len(vectors[0])
    )
    names = [file.relative_to(folder).with_suffix("").as_posix() for file in read]
    return names, np.stack(vectors)


def _as_float32(file: Path, features: np.ndarray) -> np.ndarray:
    if features.dtype not in (np.float16, np.float32, np.float64):
        raise UserError(f"{file}: features of type {features.dtype}; it must be a type of float")
    with np.errstate(over="ignore"):  # An infinity is refused later.
        return features.astype(np.float32)


def _of_h5(file: Path) -> dict[str, np.ndarray]:
    """Return the datasets of an HDF5 file that are known by name; all others stay unread."""
    import h5py

    arrays = {}
    try:
        with h5py.File(file, "r") as content:
            for name in (*ARRAYS, *NAMES, "coords"):
                if not isinstance(content.get(name, getlink=True), h5py.HardLink):
                    continue
                dataset = content[name]
                if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
                    continue
                # The values of the others are in other files.
                if not (dataset.is_virtual or dataset.external):
                    arrays[name] = dataset.asstr()[()] if name in NAMES else dataset[()]
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: not a readable HDF5 file: {one_line(error)}") from None
    return arrays


def _one(file: Path, arrays: Mapping[str, np.ndarray], known: Sequence[str]) -> np.ndarray:
    found = [name for name in known if name in arrays]
    if len(found) != 1:
        has = ", ".join(found or arrays) or "none of them"
        raise UserError(f"{file}: it must hold one dataset {' or '.join(known)}; it holds {has}")
    return arrays[found[0]]


def _of_npy(file: Path) -> np.ndarray:
    try:
        array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{file}: not a readable .npy file: {one_line(error)}") from None
    if not isinstance(array, np.ndarray):
        raise UserError(f"{file}: an archive of arrays; it must be one array")
    return array


def _table_beside(file: Path) -> list[str]:
    """Return the names in the table that is named like an .npy file, one for each of its rows."""
    tables = [file.with_suffix(suffix) for suffix in TABLES]
    found = [table for table in tables if table.is_file()]
    if len(found) != 1:
        raise UserError(
            f"{file}: the names of its rows must be in {' or '.join(map(str, tables))}, in a "
            f"column {' or '.join(NAME_COLUMNS)}; {len(found)} of these files exist"
        )
    rows = read_laboratory_table(found[0], (NAME_COLUMNS,)).rows
    # A path says more than a name.
    return [row.fields.get("path") or row.fields.get("name", "") for row in rows]


def _of_parquet(file: Path) -> tuple[list[str], np.ndarray]:
    """Return the names, and the features: one column of lists, or numbered columns of floats."""
    try:
        from pyarrow import ArrowException, types
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise UserError(
            f"{file}: a Parquet file needs one more package: pip install pyarrow"
        ) from None
    try:
        with ParquetFile(file) as content:
            table = content.read()
    except (ArrowException, OSError) as error:
        raise UserError(f"{file}: not a readable Parquet file: {one_line(error)}") from None
    named = [name for name in table.column_names if name in NAMES]
    if len(named) != 1 or len(set(table.column_names)) < len(table.column_names):
        raise UserError(f"{file}: it must have one column {' or '.join(NAMES)}, and each once")
    names = table[named[0]].to_pylist()
    if not all(isinstance(name, str) for name in names):
        raise UserError(f"{file}: the column {named[0]} holds other values than text")
    kinds = {field.name: field.type for field in table.schema if field.name not in named}
    lists = [
        name
        for name, kind in kinds.items()
        if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    ]
    if len(lists) == 1:
        vectors = table[lists[0]].to_numpy()
        lengths = {None if vector is None else len(vector) for vector in vectors}
        if len(lengths) != 1 or None in lengths:
            raise UserError(f"{file}: the vectors in {lists[0]} are not all of one length")
        return names, np.stack(vectors)
    columns = _numbered(file, {name: types.is_floating(kind) for name, kind in kinds.items()})
    return names, np.column_stack([table[column].to_numpy() for column in columns])


def _numbered(file: Path, floats: Mapping[str, bool]) -> list[str]:
    """Return the columns of features in the order of their numbers.

    Any other column is refused: a label among the features would give the answer away.
    """
    found = {name: re.fullmatch(r"(\D*)(\d+)", name) for name in floats}
    prefixes = {one[1] for one in found.values() if one}
    others = [name for name in floats if not (found[name] and floats[name])]
    order = sorted(found, key=lambda name: int(one[2]) if (one := found[name]) else -1)
    numbers = [int(one[2]) for name in order if (one := found[name])]
    if others or len(prefixes) != 1 or numbers != list(range(numbers[0], numbers[0] + len(order))):
        wrong = f"; {_some(others)} is none of them" if others else ""
        raise UserError(
            f"{file}: besides the names it must have one column of lists, or only columns of "
            f"floats that are numbered without a gap, such as feature_0, feature_1{wrong}"
        )
    return order
