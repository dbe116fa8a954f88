"""Sizes of the embedded experiment are such that Intel and AMD add in the same order (docs/processors.md)."""

from pathlib import Path

import pytest

import use_profile
from bitter_retrieval.models.batching import ALIGNED
from bitter_retrieval.params import Params, parse_params
from bitter_retrieval.typed_yaml import parse_yaml

REPOSITORY = Path(__file__).parents[2]
OTHERWISE = range(193, 384)  # inner dimensions of products that are another sum there
FEWEST = 12  # columns


@pytest.fixture(params=["default", "losses", "spread", "confirm", "more_training"])
def params(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.chdir(REPOSITORY)
    return parse_params(parse_yaml(use_profile.render(request.param), "a profile"), request.param)


def test_inner_dimensions(params: Params) -> None:
    readers, encoders = ([one.fit for one in part.values() if one.fit] for part in (params.readers, params.encoders))
    assert readers and encoders
    widths = [fit.width for fit in (*readers, *encoders)]
    inner = [*(2 * fit.width for fit in readers), *(fit.feed_forward for fit in encoders), *(e.batch for e in encoders)]
    lengths = [one.max_length for one in (*params.readers.values(), *params.encoders.values())]
    assert not {*widths, *inner, *lengths, params.train.queries_per_batch} & {*OTHERWISE}
    assert all(fit.width // fit.heads >= FEWEST for fit in (*readers, *encoders))
    assert all(length % ALIGNED == 0 for length in lengths)
    assert params.train.micro_batch_tokens >= 2 * OTHERWISE.stop  # half of it is beyond them
