"""The method in pure PyTorch: codecs, neck, encoder, losses, scenarios, training and evaluation.

Imports neither ray nor mlflow, so everything here runs in a notebook or under a debugger.
"""
