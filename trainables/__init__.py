"""The method in pure PyTorch: codecs, neck, encoder, losses, scenarios, training and evaluation.

Imports neither ray nor mlflow, so everything here runs in a notebook or under a debugger.
"""

from search_spaces.settings.commands import require

require("sweep", "compressai", "safetensors", "torch", "transformers")
