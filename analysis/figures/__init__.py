"""One module per kind of figure: each describes (`drawing`) what `render` draws."""
