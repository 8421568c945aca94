"""Scripts that rebuild the shipped weights from nothing: `python -m trainables.recipes.teacher`,
then `...mllm`."""
