"""Tables of images: Parquet files by row group, Arrow files of Hugging Face datasets by batch.

A *chunk* is a row group or a record batch: what is read at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, Field, ValidationError

from trainables.datasets.images.files import File, SourceError, local_path, split_of_file


class _ArrowFile(BaseModel):
    filename: str


class _State(BaseModel):
    """`state.json`."""

    files: list[_ArrowFile] = Field(validation_alias="_data_files")


class _Feature(BaseModel):
    names: list[str] | None = None


class _About(BaseModel):
    """`dataset_info.json`; the schema's metadata have it under `info`."""

    features: dict[str, Any] | None = None
    info: _About | None = None


Tables = list[tuple[File, str]]
"""Files with the split that each belongs to, empty where that is not said."""


def parquet_tables(files: Sequence[File]) -> Tables:
    """The Parquet files among a data set's files."""
    return [(f, split_of_file(f.path) or "") for f in files if f.path.endswith(".parquet")]


def arrow_tables(fs: Any, root: str, files: Sequence[File]) -> Tables:
    """The Arrow files that a directory written by `save_to_disk` holds, one data set or a dict.

    Raises:
        SourceError: a `state.json` is damaged, or names a file that is missing.
    """
    by_path = {file.path: file for file in files}
    tables: Tables = []
    for path in by_path:
        directory, _, name = path.rpartition("/")
        if name == "state.json":
            prefix = f"{directory}/" if directory else ""
            with _reading(path):
                state = _State.model_validate_json(fs.cat_file(f"{root}/{path}"))
            for entry in state.files:
                file = by_path.get(f"{prefix}{entry.filename}")
                if file is None:
                    raise SourceError(f"{prefix}{entry.filename} is missing ({path} names it)")
                tables.append((file, directory))
    return tables


def describe(fs: Any, path: str) -> tuple[pa.Schema, list[int]]:
    """The schema of a file and the rows of its chunks.

    Raises:
        SourceError: it is not what its name says.
    """
    try:
        if path.endswith(".arrow"):
            batches = _batches(local_path(fs, path))
            return batches[0].schema, [batch.num_rows for batch in batches]
        with fs.open(path, "rb") as stream, pq.ParquetFile(stream) as file:
            meta = file.metadata
            return file.schema_arrow, [
                meta.row_group(i).num_rows for i in range(file.num_row_groups)
            ]
    except (pa.ArrowInvalid, OSError, IndexError) as error:
        raise SourceError(f"{path} cannot be read ({str(error).splitlines()[0]})") from error


def read_chunk(fs: Any, path: str, chunk: int, columns: Sequence[str]) -> pa.Table:
    """Some columns of one chunk."""
    if path.endswith(".arrow"):
        batch = _batches(local_path(fs, path))[chunk]
        return pa.Table.from_batches([batch]).select(list(columns))
    with fs.open(path, "rb") as stream, pq.ParquetFile(stream) as file:
        return file.read_row_group(chunk, columns=list(columns), use_threads=False)


@lru_cache(maxsize=8)
def _batches(path: str) -> list[pa.RecordBatch]:
    """The batches of a file, mapped into memory and not read."""
    with pa.memory_map(path) as stream:
        batches: list[pa.RecordBatch] = list(pa.ipc.open_stream(stream))
    return batches


def names_of_labels(
    fs: Any, root: str, files: Sequence[File], schema: pa.Schema, column: str
) -> list[str] | None:
    """The classes' names that Hugging Face datasets knows, from the schema or `dataset_info.json`.

    Raises:
        SourceError: what should name them is damaged.
    """
    content, place = (schema.metadata or {}).get(b"huggingface"), "the schema's `huggingface`"
    if content is None:
        infos = [f.path for f in files if f.path.rpartition("/")[2] == "dataset_info.json"]
        if not infos:
            return None
        content, place = fs.cat_file(f"{root}/{infos[0]}"), infos[0]
    with _reading(place):
        about = _About.model_validate_json(content)
        features = (about.info or about).features or {}
        return _Feature.model_validate(features.get(column, {})).names


@contextmanager
def _reading(place: str) -> Iterator[None]:
    """Say of JSON in a place what is wrong with it."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = "".join(f"{part}: " for part in first["loc"][:1])
        raise SourceError(f"{place} is damaged ({where}{first['msg']})") from None


def check_columns(schema: pa.Schema, image: str, label: str | None) -> list[str]:
    """What is wrong with the columns that are asked for."""
    problems = []
    columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
    for setting, name in (("image_column", image), ("label_column", label)):
        if name is not None and name not in schema.names:
            hint = " (null: no classes)" if setting == "label_column" else ""
            problems.append(
                f"data.{setting} = {name!r}: no such column{hint}; there are: {columns}"
            )
    if image in schema.names and not _is_image(schema.field(image).type):
        problems.append(
            f"data.image_column = {image!r}: holds {schema.field(image).type}, not encoded images "
            f"(binary, or a struct with `bytes`); there are: {columns}"
        )
    if label is not None and label in schema.names and not _is_label(schema.field(label).type):
        problems.append(
            f"data.label_column = {label!r}: holds {schema.field(label).type}, neither whole "
            f"numbers nor text; there are: {columns}"
        )
    return problems


def image_bytes(column: pa.ChunkedArray) -> pa.Array:
    """The encoded images of a column, null where there is none."""
    array = column.combine_chunks()
    return array.field("bytes") if pa.types.is_struct(array.type) else array


def label_keys(column: pa.ChunkedArray) -> list[str | None]:
    """The labels of a column as keys of classes; None where there is none (null, or below 0)."""
    keys: list[str | None] = []
    for value in column.to_pylist():
        none = value is None or (isinstance(value, int) and value < 0)
        keys.append(None if none else str(value))
    return keys


def distinct_labels(fs: Any, root: str, tables: Tables, column: str) -> list[str]:
    """All labels that occur, numbers in their order, else as text."""
    labels: set[str | None] = set()
    for file, _ in tables:
        path = f"{root}/{file.path}"
        for chunk in range(len(describe(fs, path)[1])):
            values = read_chunk(fs, path, chunk, [column]).column(column)
            labels.update(label_keys(pa.chunked_array([values.unique()])))
    keys = [key for key in labels if key is not None]
    return sorted(keys, key=lambda key: (int(key), "") if key.isdigit() else (0, key))


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _is_image(kind.field("bytes").type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_label(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)
    )
