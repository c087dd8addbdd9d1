"""Tasks of the GLUE benchmark, from the hub's parquet files or a local copy of them.

Both come down to a folder that holds, for each split, one of

    FOLDER/mrpc/train.parquet
    FOLDER/mrpc/train-00000-of-00001.parquet     (the hub's files)
    FOLDER/mrpc/train/0000.parquet               (the hub's converted branch)

or the same below FOLDER/glue, so that one FOLDER (`data.root`) serves the tasks for in-situ training, too.

The official test labels are hidden (-1), so training and validation splits are all there is to score.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analog_glue.errors import UserError, require_argument
from analog_glue.runs.as_written import below
from analog_glue.tasks.task import RawData, Split, Task, check_fields

HUB_REPOSITORY = "nyu-mll/glue"
HUB_REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"


@dataclass(frozen=True)
class GlueTask(Task):
    """One task of GLUE. `conf/task` holds one yaml per task; other data of the same form need only another
    yaml.

    `labels` names the classes in the order of their indices in the files and is empty for regression;
    `validation_splits` stand in the order reported, the first is the one the headline metric is measured on.
    """

    name: str
    sentence_columns: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    headline: str
    validation_splits: tuple[str, ...] = ("validation",)
    max_length: int = 128  # [tokens]

    def __post_init__(self) -> None:
        for name in ("sentence_columns", "labels", "metrics", "validation_splits"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # yaml gives lists
        check_fields(self)
        columns, splits = list(self.sentence_columns), list(self.validation_splits)
        require_argument(len(columns) in (1, 2), "sentence_columns", "name one column or two", columns)
        labelled = bool(splits) and not any("test" in split for split in splits)
        hidden = "The labels of GLUE's test splits are hidden."
        require_argument(labelled, "validation_splits", "name splits with labels", splits, hidden)

    def check(self, data_root: str | None) -> None:
        if data_root is not None:
            self._local_files(self._local_folder(data_root))
            return
        from analog_glue.hub import in_cache, require_answer

        if in_cache(HUB_REPOSITORY, "dataset", HUB_REVISION, self._complete) is None:
            require_answer(HUB_REPOSITORY, "dataset", self._advice())

    def load(self, data_root: str | None) -> RawData:
        """Reads training and validation splits.

        Args:
            data_root: Folder of the module's layouts; the hub is then never asked. None: the hub's pinned revision.

        Raises:
            UserError: Files or columns are missing, labels are hidden or not those of the task, or the hub does not answer.
        """
        if data_root is not None:
            folder = self._local_folder(data_root)
            files, source = self._local_files(folder), below(data_root, folder)
        else:
            from analog_glue.hub import fetch

            patterns = [f"{self.name}/{split}-*.parquet" for split in ("train", *self.validation_splits)]
            folder = fetch(HUB_REPOSITORY, "dataset", HUB_REVISION, patterns, self._complete, self._advice())
            files = self._local_files(folder / self.name)
            source = f"{HUB_REPOSITORY}@{HUB_REVISION}/{self.name}"
        splits = {split: self._read(files[split]) for split in ("train", *self.validation_splits)}
        return RawData(train=splits.pop("train"), validation=splits, source=source)

    def _complete(self, folder: Path) -> bool:
        return all(_files_of(folder / self.name, split) for split in ("train", *self.validation_splits))

    def _advice(self) -> str:
        return (
            f"Set `data.root=FOLDER` to a local copy, where FOLDER/{self.name} or FOLDER/glue/{self.name} holds "
            f"{' and '.join(('train', *self.validation_splits))}, each as SPLIT.parquet, "
            "SPLIT-00000-of-00001.parquet or SPLIT/0000.parquet."
        )

    def _local_folder(self, data_root: str) -> Path:
        root = Path(data_root)
        places = (root / self.name, root / "glue" / self.name)
        if found := next((folder for folder in places if folder.is_dir()), None):
            return found
        raise UserError(
            f"Setting `data.root` must hold a folder {self.name} or glue/{self.name}, but is {data_root!r}, "
            f"which has neither. {self._advice()}"
        )

    def _local_files(self, folder: Path) -> dict[str, list[Path]]:
        files = {split: _files_of(folder, split) for split in ("train", *self.validation_splits)}
        if missing := [split for split, found in files.items() if not found]:
            raise UserError(
                f"Setting `data.root` must lead to every split, but {folder} lacks {' and '.join(missing)}. {self._advice()}"
            )
        return files

    def _read(self, files: list[Path]) -> Split:
        """Each file by itself: given a folder, `datasets` would merge MNLI's two validation splits into one."""
        from datasets import Dataset
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import ParquetFile

        columns: dict[str, list] = {name: [] for name in (*self.sentence_columns, "label")}
        for file in files:
            try:
                table = ParquetFile(file).read()
                dataset = Dataset(table)  # from_parquet has a cache, which a replaced file can deceive
            except (ArrowInvalid, OSError, ValueError) as error:
                raise UserError(f"File {file} must be a parquet file and must hold examples, but: {error}") from error
            if missing := [name for name in columns if name not in dataset.column_names]:
                raise UserError(
                    f"File {file} must hold the columns {list(columns)} of {self.name}, "
                    f"but lacks {missing}; it has {dataset.column_names}."
                )
            self._check_class_names(file, dataset.features["label"])
            for name, values in columns.items():
                read = _texts if name in self.sentence_columns else _numbers
                values.extend(read(file, name, table.column(name)))
        self._check_rows(files[0], columns)
        texts = list(zip(*(columns[name] for name in self.sentence_columns), strict=True))
        return Split(texts=texts, labels=columns["label"])

    def _check_class_names(self, file: Path, feature: Any) -> None:
        """The hub's files carry the class names: with classes numbered otherwise, scores would be wrong."""
        names = getattr(feature, "names", None)
        if names is not None and tuple(names) != self.labels:
            raise UserError(f"File {file} must number its classes as {list(self.labels)} (`task.labels`), but says {names}.")

    def _check_rows(self, file: Path, columns: dict[str, list]) -> None:
        labels = columns["label"]
        if not labels:
            raise UserError(f"File {file} must hold examples, but is empty.")
        if any(value is None for values in columns.values() for value in values):
            raise UserError(f"File {file} must give every sentence and label, but has empty cells.")
        if self.labels:
            wrong = sorted({label for label in labels if label not in range(len(self.labels))})
            allowed = f"0 … {len(self.labels) - 1}"
        else:
            wrong = sorted({label for label in labels if not (math.isfinite(label) and label >= 0)})
            allowed = "grades ≥ 0"
        if wrong:
            hidden = " Labels of -1 are hidden ones: a test split cannot be scored." if -1 in wrong else ""
            raise UserError(f"File {file} must have labels {allowed}, but has {wrong[:5]}.{hidden}")


def _texts(file: Path, name: str, column: Any) -> list[str | None]:
    """The cells of a column of text, or of bytes that are text; raises UserError where they are not."""
    from pyarrow import binary, types

    if not any(fits(column.type) for fits in (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)):
        raise UserError(f"File {file} must hold text in the column {name}, but holds {column.type}.")
    found: list[str | None] = []
    # A string of parquet need not be text in UTF-8, and pyarrow tells it only when a cell is read.
    for row, cell in enumerate(column.cast(binary()).to_pylist()):
        try:
            found.append(None if cell is None else cell.decode())
        except UnicodeDecodeError as error:
            raise UserError(
                f"File {file} must hold text in UTF-8, but column {name}, row {row} (the first is 0) is not: "
                f"byte {cell[error.start : error.start + 1]!r} at position {error.start}. Save it anew in UTF-8."
            ) from None
    return found


def _numbers(file: Path, name: str, column: Any) -> list[Any]:
    """The cells of a column of numbers; raises UserError where it has others."""
    from pyarrow import types

    if not any(fits(column.type) for fits in (types.is_integer, types.is_floating, types.is_boolean, types.is_null)):
        raise UserError(f"File {file} must hold numbers in the column {name}, but holds {column.type}.")
    return list(column.to_pylist())


def _files_of(folder: Path, split: str) -> list[Path]:
    """The files of a split in the first layout present, in order; empty where a shard is missing."""
    if (single := folder / f"{split}.parquet").is_file():
        return [single]
    shards = sorted(folder.glob(f"{split}-*.parquet")) or sorted((folder / split).glob("*.parquet"))
    promised = re.search(r"-of-(\d+)\.parquet$", shards[0].name) if shards else None
    return shards if promised is None or int(promised[1]) == len(shards) else []
