"""Sight of a running sweep: its state, time left, status file, gauges and notifications."""
