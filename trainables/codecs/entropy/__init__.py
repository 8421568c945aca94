"""Entropy coding: models of latents, their symbols, and the bytes they are written to."""
