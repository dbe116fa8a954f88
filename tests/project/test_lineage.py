"""What labels, models and runs are made from."""

from typing import Any

import tiny

from bitter_retrieval.labels.settings import ReaderLabels
from bitter_retrieval.lineage import (
    circle,
    entries,
    is_negative_control,
    is_soft,
    labeller,
    losses_of,
    made_from,
    origin,
)
from bitter_retrieval.lineage import stages as stages_of
from bitter_retrieval.params import Params, parse_params
from bitter_retrieval.typed_yaml import read_yaml

MINED = {"kind": "mined", "encoder": "models/encoders/mini", "per_query": 2, "depth": 50, "below": 0.95}
SECOND = {"kind": "on_policy", "needs": "models/readers/reader_a", "encoder": "models/runs/kl_permuted", "per_query": 9}
RERANKED = {"kind": "reranker", "encoder": "models/encoders/mini"}
RERANKED |= {"fit": {"steps": 1, "batch": 1, "learning_rate": 0.1, "temperature": 1.0, "seed": 0}}


ALTERED = {
    "permuted": {"kind": "permuted", "needs": "data/labels/reader_a", "seed": 0},
    "flat": {"kind": "flat", "needs": "data/labels/reader_a"},
    "noisy": {"kind": "noisy", "needs": "data/labels/reader_a", "noise": 0.5, "seed": 0},
}


def derived(**sources: dict[str, Any]) -> Params:
    """The default's params with these derived sources, and with altered labels of reader_a."""
    tree = tiny.with_runs(read_yaml(tiny.PROFILE))
    tree["runs"]["kl_permuted"] = tree["runs"]["kl"] | {"labels": "permuted"}
    tree["labels"] = {name: one for name, one in tree["labels"].items() if name not in ALTERED} | ALTERED
    return parse_params(tree | {"derived_labels": sources}, "params.yaml")


def test_what_a_run_and_its_labels_are_made_from() -> None:
    params = derived(hard=MINED | {"needs": "data/labels/human", "encoder": "models/runs/kl"})
    assert made_from("models/runs/kl", params) == ["data/labels/reader_a", "models/encoders/mini"]
    assert made_from("data/labels/reader_a", params) == ["models/readers/reader_a"]
    assert made_from("data/labels/hard", params) == ["data/labels/human", "models/runs/kl"]
    assert made_from("data/labels/human", params) == ["data/prepared/train.parquet"]
    for path in ("models/readers/reader_a", "models/encoders/mini", "data/prepared/train.parquet", "data/labels/other"):
        assert made_from(path, params) == []


def test_entries_and_stages_of_all_that_a_run_is_made_from() -> None:
    params = derived()
    labels = [("labels", "permuted"), ("labels", "reader_a"), ("readers", "reader_a")]
    assert entries("models/runs/kl_permuted", params) == [("runs", "kl_permuted"), *labels, ("encoders", "mini")]
    before = ["label@permuted", "label@reader_a", "reader@reader_a", "encoder@mini"]
    assert stages_of("models/runs/kl_permuted", params) == ["train@kl_permuted", *before]
    assert stages_of("models/runs/infonce", params) == ["train@infonce", "label@human", "encoder@mini"]
    assert stages_of("data/prepared/train.parquet", params) == []


def test_what_is_needed_twice_is_named_once() -> None:
    params = derived(hard=MINED | {"needs": "data/labels/reader_a", "encoder": "models/runs/kl"})
    before = ["label@reader_a", "reader@reader_a", "train@kl", "encoder@mini"]
    assert stages_of("data/labels/hard", params) == ["derive@hard", *before]


def test_nothing_of_the_default_is_made_from_itself() -> None:
    assert not any(circle(f"data/labels/{name}", tiny.PARAMS) for name in tiny.PARAMS.sources)


def test_what_is_derived_from_a_negative_control_is_one() -> None:
    params = derived(
        hard_permuted=MINED | {"needs": "data/labels/permuted"},
        hard_reader_a=MINED | {"needs": "data/labels/reader_a"},
        learnt=RERANKED | {"needs": "data/labels/permuted"},
        hard_learnt=MINED | {"needs": "data/labels/learnt"},
        second=SECOND,  # a reader's own labels, of what such a run finds
    )
    found = [name for name in params.sources if is_negative_control(name, params)]
    assert found == ["permuted", "flat", "hard_permuted", "learnt", "hard_learnt"]
    for name in (*ALTERED, "hard_permuted"):
        assert isinstance(origin(name, params), ReaderLabels)
    assert origin("hard_learnt", params).kind == "reranker"


def test_a_mined_source_is_as_soft_as_the_one_it_needs() -> None:
    hard = {f"hard_{name}": MINED | {"needs": f"data/labels/{name}"} for name in ("human", "reader_a")}
    params = derived(**hard, second=SECOND)
    soft = [name for name in params.sources if is_soft(name, params)]
    assert soft == ["reader_a", "reader_b", *ALTERED, "hard_reader_a", "second"]


def test_whose_losses_a_source_holds() -> None:
    assert labeller("reader_a", tiny.PARAMS) == "reader_a" == losses_of("reader_a", tiny.PARAMS)
    assert labeller("human", tiny.PARAMS) is None is labeller("permuted", derived())
    assert losses_of("nobody", tiny.PARAMS) is None
