"""One module per codec family: its settings. The class that is its `CODEC` is registered under the
names of its architectures; see `search_spaces.specs.codec`."""
