"""Points assembled into curves, with what is missing from them."""
