"""Scripts that rebuild the shipped weights from nothing: `python -m trainables.recipes.teacher`,
then `...mllm`; those of the second made world stand in `tabletop/`."""
