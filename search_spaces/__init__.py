"""What to sweep, as plain data: typed specs, named spaces, operating points and their keys.

Imports neither torch nor ray, so a space can be read, checked and planned anywhere.
"""

from search_spaces.expand import operating_points, variants_of
from search_spaces.load import SpaceError, load_space, named_spaces
from search_spaces.scenarios import evaluation_stage, point_stage
from search_spaces.specs.benchmark import BenchmarkSpec
from search_spaces.specs.codec import CodecSpec
from search_spaces.specs.points import OperatingPoint, select
from search_spaces.specs.space import Space
from search_spaces.specs.space_fields import Measurement
from search_spaces.specs.stage import Stage
from search_spaces.specs.stages import Stages

__all__ = [
    "BenchmarkSpec",
    "CodecSpec",
    "Measurement",
    "OperatingPoint",
    "Space",
    "SpaceError",
    "Stage",
    "Stages",
    "evaluation_stage",
    "load_space",
    "named_spaces",
    "operating_points",
    "point_stage",
    "select",
    "variants_of",
]
