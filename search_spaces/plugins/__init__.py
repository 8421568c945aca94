"""Finding the codecs, scenarios, tasks and MLLMs of the project and of installed distributions."""

from search_spaces.plugins.origin import Origin, plugin_names, plugin_versions
from search_spaces.plugins.registry import (
    BrokenPluginError,
    ClassRegistry,
    Registry,
    UnknownPluginError,
    implementation,
)

__all__ = [
    "BrokenPluginError",
    "ClassRegistry",
    "Origin",
    "Registry",
    "UnknownPluginError",
    "implementation",
    "plugin_names",
    "plugin_versions",
]
