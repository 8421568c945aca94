"""A sweep whose jobs sleep instead of computing; all else is the real driver."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from orchestrator.monitoring.state_file import SweepState, read_state
from orchestrator.storage.store import Store
from tests.benchmarks.instant_jobs import DIRECTORY, SLEEP, awake

ROOT = Path(__file__).parents[2]
DRIVER = """
import sys
from pathlib import Path
from orchestrator import sweep
from tests.benchmarks import instant_jobs
instant_jobs.install(Path(sys.argv[1]))
{changes}
sys.exit(sweep.main(sys.argv[2:]))
"""


class SleepingSweep:
    """The smoke space's d1 with a storage of a test.

    Args:
        environment: of the processes.
        database: of MLflow, empty; the storage gets a copy.
        directory: for the storage and for the jobs' files.
        sleep_s: of each training that nobody wakes.
    """

    def __init__(
        self, environment: dict[str, str], database: Path, directory: Path, sleep_s: float
    ) -> None:
        self.storage, self._jobs = directory / "storage", directory / "jobs"
        for made in (self.storage, self._jobs):
            made.mkdir(exist_ok=True)
        if not (self.storage / "mlflow.db").exists():
            shutil.copy(database, self.storage / "mlflow.db")
        self.environment = {
            **environment,
            **{DIRECTORY: str(self._jobs), SLEEP: str(sleep_s), "PYTHONPATH": str(ROOT)},
        }

    def words(self, lambdas: str, *more: str) -> list[str]:
        """The words of the command that sweeps some lambdas."""
        settings = (f"codecs.0.lambdas={lambdas}", "scenarios=[d1]", "baselines=[]")
        options = [word for setting in (*settings, *more) for word in ("--set", setting)]
        return ["smoke", "--storage", str(self.storage), *options]

    def start(self, lambdas: str, *more: str, changes: str = "") -> subprocess.Popen[str]:
        """Start a driver.

        Args:
            more: further settings.
            changes: statements that the driver's process runs before.
        """
        driver = DRIVER.format(changes=changes)
        return subprocess.Popen(
            [sys.executable, "-c", driver, str(self._jobs), *self.words(lambdas, *more)],
            cwd=ROOT,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run another command."""
        return subprocess.run(
            [sys.executable, "-m", "orchestrator.sweep", *words],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def steer(self, verb: str, *points: str) -> subprocess.CompletedProcess[str]:
        """Cancel or prioritise points."""
        return self.call(verb, "smoke", *points, "--storage", str(self.storage))

    def wake(self, *labels: str) -> None:
        """Let jobs sleep no more, those that have not begun included."""
        for label in labels:
            (self._jobs / awake(label)).touch()

    @property
    def state(self) -> SweepState:
        state = read_state(Store(str(self.storage)), "smoke")
        assert state is not None
        return state

    def runs(self, label: str) -> bool:
        """Whether a job trains now."""
        return any(
            (job["label"], job["phase"]) == (label, "train") for job in self.state["running"]
        )

    def run_in_mlflow(self, lmbda: float) -> Any:
        """The run of the point of a lambda."""
        client = MlflowClient(f"sqlite:///{self.storage}/mlflow.db")
        experiment = client.get_experiment_by_name("bridgesweep")
        assert experiment is not None
        query = f"tags.`bridgesweep.kind` = 'point' and params.lmbda = '{lmbda}'"
        (run,) = client.search_runs([experiment.experiment_id], query)
        return run
