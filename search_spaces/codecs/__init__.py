"""One module per codec family: its settings. A module's `CODEC` class is registered under each
value of `arch`; see `search_spaces.specs.codec`."""
