"""Typed, validated settings: a space and everything in it, its operating points and stage keys."""
