"""Data sets of images: finding them, reading awkward files on purpose, keeping what training sees.

Imports no torch, so that a sweep can be planned without it.
"""
