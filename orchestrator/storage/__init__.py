"""Content-addressed stage outputs, sweep locks, and where results come from."""
