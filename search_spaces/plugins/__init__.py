"""Finding the codecs, scenarios, tasks and MLLMs of the project and of installed distributions."""

from search_spaces.plugins.registry import (
    BrokenPluginError,
    ClassRegistry,
    Origin,
    Registry,
    UnknownPluginError,
    implementation,
    plugin_versions,
)

__all__ = [
    "BrokenPluginError",
    "ClassRegistry",
    "Origin",
    "Registry",
    "UnknownPluginError",
    "implementation",
    "plugin_versions",
]
