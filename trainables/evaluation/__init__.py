"""Measuring an operating point: real bytes in, task accuracy out."""

from trainables.evaluation.evaluate import evaluate_point

__all__ = ["evaluate_point"]
