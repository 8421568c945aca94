"""MLLMs behind one small interface: look at images or enter by the bridge, then answer.

`python -m trainables.mllms` lists the families that are installed, and why others cannot be swept.
"""

from trainables.mllms.mllm import Mllm

__all__ = ["Mllm"]
