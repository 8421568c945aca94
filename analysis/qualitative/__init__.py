"""Example images of a sweep and their answers at matched rates."""
