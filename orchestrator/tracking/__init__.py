"""MLflow runs and the points file of a sweep."""
