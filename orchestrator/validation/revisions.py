"""Pins the models of the hub: `ORG/MODEL` or `ORG/MODEL@TAG` becomes `ORG/MODEL@COMMIT`.

    hub, or this machine's cache of it --first sweep in a storage--> revisions/<name> in the storage

The commit stands in the space from then on, so it is in stage keys, manifests, MLflow and
`sweep.json`, and every process loads it. It stays the same for all sweeps in a storage, also when
the hub has a newer one, until a space names another revision.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RevisionResolutionError

from orchestrator.storage.outage import until_visible
from orchestrator.storage.provenance import local_path, model_names
from orchestrator.storage.store import Store
from search_spaces import Space
from search_spaces.settings.paths import split_revision

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_WITHOUT_MODELS: Final = ("name", "description")
"""Settings whose text may look like a model's name and is none."""


def pin_revisions(space: Space, store: Store, ask_hub: bool) -> tuple[Space, list[str]]:
    """A space that names a commit of each model of the hub.

    A model that neither the hub nor this machine's cache can be asked about is left as it is: the
    other nodes may have it.

    Args:
        ask_hub: ask the hub, and keep its answers in the storage.

    Returns:
        The space, and a line for each model or revision that the hub does not give.
    """
    pinned: dict[str, str] = {}
    problems = []
    for setting, name in model_names(space):
        model, revision = split_revision(name)
        # Weights of codecs are files.
        is_hub_id = local_path(name) is None and "codecs." not in setting
        if not is_hub_id or name in pinned or _COMMIT.fullmatch(revision or ""):
            continue
        try:
            commit = _commit(store, name, ask_hub)
        except (HfHubHTTPError, ValueError) as error:
            reason = (str(error).strip().splitlines() or [""])[0]
            problems.append(f"{setting} = {name!r}: {type(error).__name__}: {reason}")
            continue
        if commit is not None:
            pinned[name] = f"{model}@{commit}"
    if not pinned:
        return space, problems
    return Space.model_validate(_renamed(space.model_dump(mode="json"), pinned)), problems


def _commit(store: Store, name: str, ask_hub: bool) -> str | None:
    """The commit of a model's name in a storage; None if nobody can be asked.

    Raises:
        HfHubHTTPError: the hub does not have the model or the revision, or does not give it.
        ValueError: the name is no hub id, or the file in the storage is damaged.
    """
    file = f"revisions/{quote(name, safe='')}"
    content = store.read(file)
    if content is None:
        model, revision = split_revision(name)
        try:
            resolved = HfApi().resolve_revision(
                model, revision=revision, local_files_only=not ask_hub
            )
        except RevisionResolutionError:
            return None
        content = str(resolved.resolved).encode()
        if ask_hub and not store.create(file, content):
            content = until_visible(lambda: store.read(file)) or b""  # another sweep was first
    commit = content.decode(errors="replace")
    if _COMMIT.fullmatch(commit) is None:
        raise ValueError(f"{store.path(file)} holds no commit; delete it")
    return commit


def _renamed(data: Any, names: Mapping[str, str]) -> Any:
    """Data of a space in which models have other names."""
    if isinstance(data, dict):
        return {
            key: value if key in _WITHOUT_MODELS else _renamed(value, names)
            for key, value in data.items()
        }
    if isinstance(data, list):
        return [_renamed(value, names) for value in data]
    return names.get(data, data) if isinstance(data, str) else data
