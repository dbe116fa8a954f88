"""How a stage ends when its input is bad: with the message alone, not with the way to where it was raised.

error: params.yaml: runs.kl.losses.k1: no such loss; did you mean kl?
"""

import sys
from collections.abc import Callable


def run_stage(main: Callable[[], object]) -> None:
    """Run a stage's main; an error that this package words ends it with exit status 1, any other one is a defect."""
    try:
        main()
    except (ValueError, RuntimeError) as error:
        if not type(error).__module__.startswith("bitter_retrieval"):
            raise
        sys.exit(f"error: {error}")
