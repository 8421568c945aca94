"""gain: three gains and three offsets on the decoded image, trained with the surrogate loss."""

from search_spaces.scenarios.contract import Scenario, base_codec, bridge_identity
from search_spaces.specs.base import Positive
from search_spaces.specs.scenario_look import ScenarioLook
from search_spaces.specs.training import Optimiser


class GainTraining(Optimiser):
    """Training of the gains."""

    steps: Positive = 1000


class Gain(Scenario):
    """The decoded image, each colour scaled and shifted."""

    name = key = "gain"
    settings = GainTraining
    implementation = "bridgesweep_example.gain_method:METHOD"
    enters = "image"
    uses_neck = False
    look = ScenarioLook(title="gain", sentence="Each colour is scaled and shifted.")

    def reads(self, stages, point):
        """Codec, features, texts."""
        return {**base_codec(stages, point), **stages.surrogate_targets()}

    def identity(self, stages, point):
        """Encoder, loss, training."""
        return bridge_identity(stages, point)


SCENARIO = Gain()
