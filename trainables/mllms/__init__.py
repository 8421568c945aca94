"""MLLMs behind one small interface: look at images or enter by the bridge, then answer.

`python -m trainables.mllms` lists the classes that are known, and why others are not.
"""

from search_spaces.facts.mllm_families import FAMILIES, REFUSED, UnknownMllmError, family_of
from trainables.mllms.mllm import Mllm

__all__ = ["FAMILIES", "REFUSED", "Mllm", "UnknownMllmError", "family_of"]
