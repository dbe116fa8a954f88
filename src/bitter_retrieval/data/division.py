"""The split of each group of questions, drawn by a seed and independent of the order of the files.

divide(["Warsaw", "Otter", …], seed=0, shares={"train": 0.8, "test": 0.2}, where="data/raw")
    {"Otter": "train", …, "Warsaw": "test"}
"""

import hashlib
from collections.abc import Iterable
from itertools import accumulate, pairwise


class DivisionError(ValueError):
    """Shares that leave a split without questions; the message has the place, the share and the remedy."""


def digest(*parts: object) -> str:
    """A hash of the parts to sort by, in an order that no file decides."""
    return hashlib.sha1("\x1f".join(map(str, parts)).encode()).hexdigest()


def drawn(names: Iterable[str], seed: int) -> list[str]:
    """The distinct names in an order drawn by the seed."""
    return sorted(set(names), key=lambda name: digest(seed, name))


def divide(groups: Iterable[str], seed: int, shares: dict[str, float], where: str, at: str = "data") -> dict[str, str]:
    """Split by group. Groups beyond the sum of the shares have no split; a share of 0 takes no group.

    where: the data's name in errors; at: where params describe the data. Raises DivisionError.
    """
    order = drawn(groups, seed)
    wanted = [split for split, share in shares.items() if share]
    if len(order) < len(wanted):
        raise DivisionError(
            f"{where}: {len(order)} articles or groups, and each is in one split alone, so {', '.join(wanted)} cannot "
            f"all have one. Give data of {len(wanted)} or more, or set shares of {at}.articles to 0."
        )
    # Rounded half up. Sums of shares may miss a half by their rounding error, for which 1e-9 makes up.
    ends = [int(len(order) * share + 0.5 + 1e-9) for share in accumulate(shares.values())]
    if ends != sorted(ends) or ends[-1] > len(order):
        raise DivisionError(f"{at}.articles is {shares}: at least 0 each, their sum at most 1. Lower the largest.")
    split_of: dict[str, str] = {}
    for (split, share), (start, end) in zip(shares.items(), pairwise([0, *ends]), strict=True):
        if share and start == end:
            cause = f"{split!r} gets no question from its share {share} of {len(order)} articles or groups"
            raise DivisionError(f"{where}: {cause}. Raise {at}.articles.{split} to {1 / len(order):.4f} or more.")
        split_of |= dict.fromkeys(order[start:end], split)
    return split_of
