"""d3: codec and neck trained together without the image; g_s is neither run nor trained."""

from __future__ import annotations

from trainables.scenarios.d2 import JointMethod

METHOD = JointMethod("d3", synthesis=False)
