"""Running a space on Ray and keeping its points in MLflow: `python -m orchestrator.sweep`."""

from search_spaces.settings.commands import require

require("sweep", "mlflow", "psutil", "ray", "rich", "torch")
