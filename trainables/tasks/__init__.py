"""The tasks: what counts as a right answer, and in which unit.

| task              | the answer is                       | of                               |
|-------------------|-------------------------------------|----------------------------------|
| captioning        | a sentence of the demo's grammar    | scenes                           |
| vqa, fewshot      | one word                            | scenes                           |
| rec               | a box, in the demo's words          | scenes                           |
| zeroshot          | the encoder's best classes          | images in ImageNet's layout      |
| captions          | a sentence                          | COCO and others, Karpathy splits |
| choice            | a letter                            | SEED-Bench                       |
| choice_circular   | a letter, per rotation of a choice  | MMBench                          |
| choice_likelihood | log-likelihoods, the highest counts | SEED-Bench, MMBench              |
| yes_no            | yes or no                           | POPE                             |
| open_vqa          | a few words                         | VQAv2                            |
| grounding         | a box, as the MLLM writes it        | RefCOCO, RefCOCO+, RefCOCOg      |
| fewshot_names     | the name of a class                 | mini-ImageNet                    |
| text_reading      | the text in the image               | images with text                 |

All primary metrics are means over samples. `lacking` names the metrics that this machine cannot
compute, and why.
"""

from trainables.tasks.boxes import Grounding, parse_box
from trainables.tasks.captions import Captions, lacking
from trainables.tasks.choices import Choice, CircularChoice, LikelyChoice, letter_of
from trainables.tasks.classes import FewshotNames, OneName, ZeroShot
from trainables.tasks.scenes import Captioning
from trainables.tasks.sets import SetValue, set_values
from trainables.tasks.task import Metric, Scores, Task
from trainables.tasks.text_reading import TextReading
from trainables.tasks.vqa import OpenVqa
from trainables.tasks.yes_no import YesNo, yes_or_no

_ALL: tuple[Task, ...] = (
    Captioning(),
    OneName("vqa", "answer"),
    Grounding("rec", max_new_tokens=6),
    OneName("fewshot", "label", chance=0.2),  # five classes
    ZeroShot(),
    Captions(),
    Choice(),
    CircularChoice(),
    LikelyChoice(),
    YesNo(),
    OpenVqa(),
    Grounding("grounding", max_new_tokens=64),
    FewshotNames(),
    TextReading(),
)
TASKS: dict[str, Task] = {task.name: task for task in _ALL}

__all__ = [
    "TASKS",
    "Metric",
    "Scores",
    "SetValue",
    "Task",
    "lacking",
    "letter_of",
    "parse_box",
    "set_values",
    "yes_or_no",
]
