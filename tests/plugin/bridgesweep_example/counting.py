"""counting: how many digits are in the scene?"""

from trainables.datasets.worlds.samples import SceneSample
from trainables.tasks.common.one_name import OneName


class Counting(OneName):
    """One word is right."""

    data_kinds = ("scenes",)

    def scene_samples(self, scene, rng):
        """One question per scene."""
        answer = ("zero", "one", "two", "three")[len(scene.spec.objects)]
        prompt = "<image> question : how many digits ? answer :"
        return [SceneSample(prompt, answer, {"answer": answer})]


TASK = Counting()
