"""One module per kind of figure, and the style that they share."""
