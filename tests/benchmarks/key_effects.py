"""Print what each setting makes again in a finished sweep, as real plans say it.

python -m tests.benchmarks.key_effects
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.orchestrator.plan.effect_spaces import base, write_data
from tests.orchestrator.plan.key_effects import EFFECTS
from tests.orchestrator.plan.made_again import made_again, stages_of


def main() -> None:
    """Print a table: setting, change, what is made again, whether that is what is stated."""
    print("| setting | change | in space | makes again | as stated |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        write_data(root)
        finished = {}
        for setting, effects in sorted(EFFECTS.items()):
            for effect in effects:
                if effect.base not in finished:
                    finished[effect.base] = stages_of(base(effect.base, root))
                changed = stages_of(base(effect.base, root, effect.override))
                found = made_again(finished[effect.base], changed)
                verdict = "yes" if found == effect.made_again else "NO"
                listed = ", ".join(sorted(found)) or "nothing"
                cells = (setting, effect.override, effect.base, listed, verdict)
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
