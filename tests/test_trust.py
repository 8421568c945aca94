"""What is read from outside runs nothing: no pickles, and models in one place, without programs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("search_spaces", "trainables", "orchestrator", "analysis", "bridgesweep")
# Tune writes the error of a trial on the driver's own disk; it is read there if this user wrote it.
# Handles of this sweep's actors come through Ray, which pickles whatever its processes exchange.
# A recorder and its driver have a socket that no other process can open.
PICKLES = {
    "added_jobs.py": ("pickle.loads",),
    "tune.py": ("cloudpickle.loads",),
    "stream.py": ("cloudpickle.loads",),
    "pickled_jobs.py": ("pickle.loads",),
    "recorder_child.py": ("pickle.loads", "connection.recv"),
    "recorder_process.py": ("self._connection.recv",),
}
LOADERS = ("torch.load", "load_state_dict_from_url")


def unsafe_calls(source: str, file: str) -> Iterator[str]:
    """Calls that may run a program in what they read."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        options = {option.arg: ast.unparse(option.value) for option in node.keywords}
        is_pickle = name.rpartition(".")[0] in ("pickle", "cloudpickle", "joblib", "dill")
        # Of `multiprocessing`; a socket's takes the number of bytes.
        is_object_of_a_connection = name.endswith(".recv") and not node.args
        is_read_as_pickle = (is_pickle and ".load" in name) or is_object_of_a_connection
        if is_read_as_pickle and name not in PICKLES.get(file, ()):
            yield name
        if name in LOADERS and options.get("weights_only") != "True":
            yield f"{name} without weights_only=True"
        if name == "np.load" and options.get("allow_pickle", "False") != "False":
            yield name
        if name.endswith(".from_pretrained") and options.get("trust_remote_code") != "False":
            yield f"{name} without trust_remote_code=False"
        if name in ("yaml.load", "yaml.unsafe_load", "eval", "exec"):
            yield name


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_that_is_read_is_run(package: str) -> None:
    found = {
        str(file.relative_to(ROOT)): calls
        for file in sorted((ROOT / package).rglob("*.py"))
        if (calls := list(unsafe_calls(file.read_text(encoding="utf-8"), file.name)))
    }
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        *("torch.load(f)", "torch.load(f, weights_only=False)", "pickle.load(f)", "eval(x)"),
        *("cloudpickle.loads(x)", "np.load(f, allow_pickle=True)", "yaml.load(f, Loader=L)"),
        "connection.recv()",
        *("AutoModel.from_pretrained(x)", "load_state_dict_from_url(u, weights_only=False)"),
    ],
)
def test_the_check_can_fail(source: str) -> None:
    assert len(list(unsafe_calls(source, "other.py"))) == 1
