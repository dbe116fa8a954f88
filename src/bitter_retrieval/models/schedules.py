"""How a learning rate rises and falls: the share of its peak at each step.

[schedule(step, 4, 0.5, "linear") for step in range(4)]    [0.5, 1.0, 1.0, 0.5]
"""

from math import cos, pi


def schedule(step: int, steps: int, warmup: float, kind: str) -> float:
    """Linear rise over the share `warmup` of the steps, then kind: cosine or linear towards 0, or constant."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    falling = max(1, steps - rising)
    done = (step - rising) / falling
    return {"cosine": (1 + cos(pi * done)) / 2, "linear": (steps - step) / falling, "constant": 1.0}[kind]
