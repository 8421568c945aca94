"""Does every node see what the driver sees: the storage, the models, the data and this program?"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Final

from orchestrator.execution.cluster import alive_nodes, node_ids
from orchestrator.plan.jobs import Plan
from orchestrator.storage import provenance
from orchestrator.storage.outage import until_visible
from orchestrator.storage.store import Store
from search_spaces import Space

NODE_ANSWER_S: Final = 300.0
"""How long a node may take to start a process and to read models and data."""
CODE: Final = "this program"


def nodes_with_other_files(
    space: Space,
    store: Store,
    checksums: Mapping[str, str],
    checked: Collection[str] = (),
) -> list[str]:
    """Problems of the nodes, a line each: no answer, no access to the storage, or other files.

    Args:
        checksums: `provenance.fingerprints` of the space, as this process sees it.
        checked: ids of nodes that were asked before.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    token = uuid.uuid4().hex
    name = f"tmp/token-{token}"
    look = ray.remote(num_cpus=0, max_retries=0)(_look_from_node)
    expected = {**checksums, CODE: provenance.source_checksum()}
    answers = {}
    try:
        store.write(name, token.encode())
        for node in alive_nodes():
            if node["NodeID"] in checked:
                continue
            here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            address = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            task = look.options(scheduling_strategy=here)
            answers[address] = task.remote(space, store.uri, name, token, expected)
        ray.wait(list(answers.values()), num_returns=len(answers), timeout=NODE_ANSWER_S)
    finally:
        store.remove([name])
    problems = []
    for address, answer in answers.items():
        try:
            node_problems = ray.get(answer, timeout=0)
        except Exception as error:  # whatever keeps a node from looking
            lines = str(error).strip().splitlines()
            reason = lines[-1] if lines else ""
            node_problems = [f"did not answer ({type(error).__name__}: {reason})"]
        problems += [f"node {address} {line}" for line in node_problems]
    return problems


class NewNodes:
    """Checks the nodes that join while a sweep runs, beside its work.

    Args:
        plan: whose space, and whose checksums of files, are those of the moment.
        store: the storage.
        note: called with a line per problem.
    """

    def __init__(self, plan: Plan, store: Store, note: Callable[[str], None]) -> None:
        self._plan, self._store, self._note = plan, store, note
        self._checked = node_ids()
        self._thread: threading.Thread | None = None

    def look(self) -> None:
        """Check the nodes that have joined since the last look; returns at once."""
        new = node_ids() - self._checked
        if new and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(
                target=self._check, args=(self._checked,), name="new nodes", daemon=True
            )
            self._checked |= new
            self._thread.start()

    def _check(self, checked: frozenset[str]) -> None:
        try:
            space, checksums = self._plan.space, self._plan.fingerprints
            problems = nodes_with_other_files(space, self._store, checksums, checked)
        except Exception as error:  # the storage or Ray's head is away
            problems = [f"new nodes could not be checked: {type(error).__name__}: {error}"]
        for problem in problems:
            self._note(f"{problem}; what runs there will fail")


def _look_from_node(
    space: Space, uri: str, name: str, token: str, checksums: Mapping[str, str]
) -> list[str]:
    # A shared disk shows it late to a node that has looked into the directory before.
    store = Store(uri)
    if until_visible(lambda: store.read(name)) != token.encode():
        return [f"does not see the storage {uri}; give a directory or URI that all nodes share"]
    try:
        node_checksums = provenance.fingerprints(space, store.local(provenance.CHECKSUMS))
        node_checksums |= {CODE: provenance.source_checksum()}
    except Exception as error:  # a file is missing or cannot be read
        return [f"cannot read what the space names: {type(error).__name__}: {error}"]
    differ = (name for name, checksum in checksums.items() if node_checksums.get(name) != checksum)
    return [f"has other files, or none, for {name}" for name in sorted(differ)]
