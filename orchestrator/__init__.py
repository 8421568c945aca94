"""Running a space on Ray and keeping its points in MLflow: `python -m orchestrator.sweep`."""
