"""Does every node see what the driver sees: the storage, the models, the data and this program?

driver --before it starts--> all nodes: one that does not ends the sweep
driver --while it runs--> nodes that have joined --if they do--> fit_nodes.py
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Set
from typing import TYPE_CHECKING, Any, Final

from orchestrator.execution.cluster import alive_nodes, node_ids
from orchestrator.execution.fit_nodes import UNFIT_WAIT_S, free, hold, publish
from orchestrator.storage import provenance
from orchestrator.storage.outage import until_visible
from orchestrator.storage.store import Store
from search_spaces import Space

if TYPE_CHECKING:  # it imports Ray
    from ray.util.placement_group import PlacementGroup

NODE_ANSWER_S: Final = 300.0
"""How long a node may take to start a process and to read models and data."""
LOOK_S: Final = 10.0
"""Seconds between two looks for nodes that have joined."""
ASK_AGAIN_S: Final = 60.0
"""Seconds after which a node that was not fit is asked again: somebody may have mended it."""
Seen = Callable[[], tuple[Space, Mapping[str, str]]]
CODE: Final = "this program"


def nodes_with_other_files(space: Space, store: Store, checksums: Mapping[str, str]) -> list[str]:
    """Problems of all nodes, a line each: no answer, no access to the storage, or other files.

    Args:
        checksums: `provenance.fingerprints` of the space, as this process sees it.
    """
    found = problems_by_node(space, store, checksums, node_ids())
    return [line for lines in found.values() for line in lines]


def problems_by_node(
    space: Space, store: Store, checksums: Mapping[str, str], nodes: Collection[str]
) -> dict[str, list[str]]:
    """Problems of some nodes, as of `nodes_with_other_files`, by the id of each that is alive."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    token = uuid.uuid4().hex
    name = f"tmp/token-{token}"
    look = ray.remote(num_cpus=0, max_retries=0)(_look_from_node)
    expected = {**checksums, CODE: provenance.source_checksum()}
    addresses, answers = {}, {}
    try:
        store.write(name, token.encode())
        for node in alive_nodes():
            node_id = node["NodeID"]
            if node_id not in nodes:
                continue
            here = NodeAffinitySchedulingStrategy(node_id, soft=False)
            addresses[node_id] = _address(node)
            task = look.options(scheduling_strategy=here)
            answers[node_id] = task.remote(space, store.uri, name, token, expected)
        ray.wait(list(answers.values()), num_returns=len(answers), timeout=NODE_ANSWER_S)
    finally:
        store.remove([name])
    problems = {}
    for node_id, answer in answers.items():
        try:
            lines = ray.get(answer, timeout=0)
        except Exception as error:  # whatever keeps a node from looking
            reason = next(reversed(str(error).strip().splitlines()), "")
            lines = [f"did not answer ({type(error).__name__}: {reason})"]
        problems[node_id] = [f"{addresses[node_id]} {line}" for line in lines]
    return problems


class NewNodes:
    """Checks the nodes that join while a sweep runs, beside its work, until they are fit.

    Args:
        seen: returns the space of the moment, and `provenance.fingerprints` of it in this process.
        store: the storage.
        note: called with a line per problem.
        fit: ids of the nodes that were found fit before the work.
    """

    def __init__(
        self, seen: Seen, store: Store, note: Callable[[str], None], fit: Collection[str]
    ) -> None:
        self._seen, self._store, self._note = seen, store, note
        self._fit = set(fit)
        self._asked_at: dict[str, float] = {}
        """Id of a node that is not fit -> when it was asked last, by `time.monotonic`."""
        self._told: set[str] = set()
        self._held: dict[str, list[PlacementGroup]] = {}
        """By the ids of the nodes that were found not to be fit."""
        self._addresses: dict[str, str] | None = None
        """By the ids of the nodes of the last look; None before the first one."""
        self._thread: threading.Thread | None = None

    @property
    def unfit(self) -> frozenset[str]:
        """The ids of nodes that see other files, or do not answer."""
        return frozenset(self._held)

    def look(self) -> None:
        """Tell which nodes come and go, and ask those that are not known to be fit.

        It returns at once.
        """
        alive = _addresses()
        before, self._addresses = self._addresses or alive, alive
        for verb, those, others in (("left", before, alive), ("joined", alive, before)):
            if names := sorted(those[node] for node in those.keys() - others.keys()):
                self._note(f"{', '.join(names)} {verb} the cluster: it has {len(alive)} now")
        if self._thread is not None and self._thread.is_alive():
            return
        for gone in self._held.keys() - alive.keys():
            free(self._held.pop(gone))  # Ray would try for ever to place them elsewhere
        now = time.monotonic()
        due = {
            node
            for node in alive.keys() - self._fit
            if now - self._asked_at.get(node, -ASK_AGAIN_S) >= ASK_AGAIN_S
        }
        if due:
            self._asked_at |= dict.fromkeys(due, now)
            self._thread = threading.Thread(
                target=self._check, args=(due,), name="new nodes", daemon=True
            )
            self._thread.start()

    def _check(self, nodes: Collection[str]) -> None:
        try:
            space, checksums = self._seen()
            found = problems_by_node(space, self._store, checksums, nodes)
            fit = {node for node, problems in found.items() if not problems}
            publish(fit, is_fit=True)
            self._fit |= fit
            publish(found.keys() - fit, is_fit=False)
            self._hold(found.keys() - fit)
        except Exception as error:  # the storage or Ray's head is away
            self._tell(f"new nodes could not be checked: {type(error).__name__}: {error}")
            return
        for problem in (line for problems in found.values() for line in problems):
            self._tell(
                f"{problem}; what Ray places there waits {UNFIT_WAIT_S:g} s and then goes elsewhere"
            )

    def _hold(self, nodes: Set[str]) -> None:
        """Keep nodes free of work, and give back those that are fit by now."""
        alive = {node["NodeID"]: node for node in alive_nodes()}
        for node in nodes & alive.keys() - self._held.keys():
            self._held[node] = hold(alive[node])
        for node in self._held.keys() & self._fit:
            free(self._held.pop(node))

    def _tell(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            self._note(line)


def _addresses() -> dict[str, str]:
    """Names of the nodes that are alive, by their ids."""
    return {node["NodeID"]: _address(node) for node in alive_nodes()}


def _address(node: Mapping[str, Any]) -> str:
    return f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


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
