"""What `--list` says of each extension."""

import inspect

from orchestrator.driver.installed import listing
from trainables.tasks import TASKS


def test_tasks_are_described_in_whole_sentences() -> None:
    text = listing()
    for name, task in TASKS.working().items():
        (line,) = (line for line in text.splitlines() if line.split()[:1] == [name])
        assert line.endswith((".", "?")), line
        first = (inspect.getdoc(type(task)) or "").split("\n\n")[0]
        assert line.split()[1:] == first.split()
