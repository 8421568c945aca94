"""Codecs of the standards: JPEG, JPEG 2000, WebP, AVIF and VVC intra. Imports no torch."""
