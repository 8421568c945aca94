"""Worlds: images that the project makes itself, with captions, questions and answers."""
