"""transfer: d1's neck of another codec, as it is."""

from __future__ import annotations

from trainables.points.neck_method import NeckMethod

METHOD = NeckMethod()
