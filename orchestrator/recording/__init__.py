"""What a sweep has made, on its way to people: MLflow, the points file, the report."""
