"""Scripts that rebuild the shipped weights from nothing.

`python -m trainables.recipes.WORLD.teacher`, then `...mllm`, of the worlds `scenes` and `tabletop`;
`...base_codec` and `...converged_codec` for codecs.
"""
