"""Names of metrics in MLflow, and names that differ."""

from __future__ import annotations


def metric_to_mlflow(name: str) -> str:
    """The name under which MLflow keeps a metric: `accuracy@0.5` -> `accuracy_at_0.5`.

    MLflow allows alphanumerics, `_ - . : /` and spaces in metric names, but no `@`.

    Raises:
        ValueError: the name holds `_at_` itself, so that it could not be read back.
    """
    if "_at_" in name:
        raise ValueError(
            f"metric {name!r}: '_at_' is reserved: MLflow's form of '@'; use another name"
        )
    return name.replace("@", "_at_")


def metric_from_mlflow(name: str) -> str:
    """The inverse of `metric_to_mlflow`."""
    return name.replace("_at_", "@")


def number_duplicates(names: list[str]) -> list[str]:
    """The names, numbered where several are the same: `demo 1`, `demo 2`."""
    return [
        name if names.count(name) == 1 else f"{name} {names[: i + 1].count(name)}"
        for i, name in enumerate(names)
    ]
