"""grey: the encoder reads the decoded image without its colours."""

from search_spaces.scenarios.reconstruction import Reconstruction
from search_spaces.specs.scenario_look import ScenarioLook


class Grey(Reconstruction):
    """The decoded image in grey."""

    name, implementation = "grey", "bridgesweep_example.grey_method:METHOD"
    look = ScenarioLook(title="grey", image="own", sentence="The image is read without colours.")


SCENARIO = Grey()
