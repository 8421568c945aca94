"""One module per kind of figure: each describes (`common.drawing`) what `common.render` draws."""
