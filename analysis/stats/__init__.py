"""Comparisons of curves: anchors, BD-rates, savings, significance."""
