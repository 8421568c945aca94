"""The tasks: what counts as a right answer, and in which unit.

| task          | the answer is                    | of                                   |
|---------------|----------------------------------|--------------------------------------|
| captioning    | a sentence of the demo's grammar | scenes                               |
| vqa, fewshot  | one word                         | scenes                               |
| rec           | a box, in the demo's words       | scenes                               |
| zeroshot      | the encoder's best classes       | images in ImageNet's layout          |
| yes_no        | yes or no                        | POPE                                 |
| grounding     | a box, as the MLLM writes it     | RefCOCO, RefCOCO+, RefCOCOg          |
| fewshot_names | the name of a class              | mini-ImageNet                        |

All primary metrics are means over samples.
"""

from trainables.tasks.boxes import Grounding, parse_box
from trainables.tasks.classes import FewshotNames, OneName, ZeroShot
from trainables.tasks.sets import SetValue, set_values
from trainables.tasks.task import Metric, Scores, Task
from trainables.tasks.world import Captioning
from trainables.tasks.yes_no import YesNo, yes_or_no

_ALL: tuple[Task, ...] = (
    Captioning(),
    OneName("vqa", "answer"),
    Grounding("rec", max_new_tokens=6),
    OneName("fewshot", "label", chance=0.2),  # five classes
    ZeroShot(),
    YesNo(),
    Grounding("grounding", max_new_tokens=64),
    FewshotNames(),
)
TASKS: dict[str, Task] = {task.name: task for task in _ALL}

__all__ = [
    "TASKS",
    "Metric",
    "Scores",
    "SetValue",
    "Task",
    "parse_box",
    "set_values",
    "yes_or_no",
]
