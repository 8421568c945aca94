"""transfer: d1's neck of another codec, as it is."""

from __future__ import annotations

from trainables.scenarios.d1 import Bridge

METHOD = Bridge()
