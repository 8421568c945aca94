"""Reading and writing points: sweep directories, MLflow, other people's results."""
