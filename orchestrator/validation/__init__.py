"""Finds every input mistake before any job starts."""
