"""Stage mix as DVC runs it: a soft source and people's labels as one, and what a run's losses learn from it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import yaml

import mix
import train
from bitter_retrieval.encoders.encoder import load_encoder
from bitter_retrieval.labels.draws import uniform
from bitter_retrieval.labels.soft import LossesByQuery, passage_losses
from bitter_retrieval.labels.targets import FAR, with_people
from bitter_retrieval.params import Params, load_params, parse_params
from bitter_retrieval.records import BINARY_LABELS, NO_PASSAGE, PREPARED, SOFT_LABELS, Row, read_rows, write_rows
from bitter_retrieval.training.objective import Objective, Outcome
from bitter_retrieval.typed_yaml import ParamsError

SPLITS = {"train": tiny.world(20), "validation": tiny.world(8, first=24)}
SOURCES = {"needs": "data/labels/reader_a", "human": "data/labels/human"}
LONG = {"infonce": {"weight": 0.5, "labels": "human"}, "kl": {"weight": 0.5, "labels": "reader_a"}}


def people(rows: list[Row]) -> list[Row]:
    """People who always select a passage that does not support the answer, so that their labels show."""
    return [
        {"query_id": row["query_id"], "passage_id": passage["passage_id"], "relevant": int(place == wrong)}
        for row in rows
        for wrong in [next(place for place, p in enumerate(row["passages"]) if p["role"] != "plain")]
        for place, passage in enumerate(row["passages"])
    ]


def write_params(**runs: dict[str, Any]) -> Params:
    tree = tiny.with_runs(yaml.safe_load(tiny.PROFILE.read_text()))
    tree["mixed_labels"] = {
        "pair": {"kind": "both", **SOURCES},
        "half": {"kind": "mixed", **SOURCES, "share": 0.5, "seed": 0},
    }
    tree["runs"] |= {name: tree["runs"]["kl"] | fields for name, fields in runs.items()}
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    return load_params()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for split, rows in SPLITS.items():
        write_rows(f"data/prepared/{split}.parquet", rows, PREPARED)
        write_rows(f"data/labels/human/{split}.parquet", people(rows), BINARY_LABELS)
        write_rows(f"data/labels/reader_a/{split}.parquet", tiny.soft(rows), SOFT_LABELS)
    tiny.tiny_encoder().save(Path("models/encoders/mini"))
    write_params()
    return tmp_path


def run(source: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr("sys.argv", ["mix.py", source])
    mix.main()
    return json.loads(Path(f"data/figures/label/{source}.json").read_text())


def outcome(params: Params, name: str) -> Outcome:
    """The objective of a run over all training questions in one batch."""
    data, _ = train.load_sets(params, params.runs[name])
    return Objective(params.runs[name], 10_000)(load_encoder(Path("models/encoders/mini")), data, np.arange(20))


# -- both ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("losses", [LONG, {"infonce": 0.5, "kl": 0.5}])
def test_each_loss_learns_from_the_labels_that_it_can_read(
    losses: dict[str, Any], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = write_params(
        pair={"labels": "pair", "losses": losses}, human={"labels": "human", "losses": {"infonce": 1}}
    )
    assert run("pair", monkeypatch) == {"train": {"queries": 20}, "validation": {"queries": 8}}
    found = outcome(params, "pair")
    for loss, alone in {"infonce": outcome(params, "human"), "kl": outcome(params, "kl")}.items():
        assert torch.equal(found.metrics[loss], alone.metrics[loss])
        assert torch.equal(found.terms[loss], 0.5 * alone.metrics[loss])
    assert not torch.equal(found.metrics["infonce"], found.metrics["kl"])


def test_both_files_are_those_of_the_sources(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("pair", monkeypatch)
    for split in SPLITS:
        for name, source in {f"{split}.parquet": "reader_a", f"human-{split}.parquet": "human"}.items():
            written, given = (
                Path(f"data/labels/{one}").read_bytes() for one in (f"pair/{name}", f"{source}/{split}.parquet")
            )
            assert written == given


# -- mixed -----------------------------------------------------------------------------------------------------------


def losses(source: str) -> LossesByQuery:
    return passage_losses(read_rows(f"data/labels/{source}/train.parquet", SOFT_LABELS))


def test_a_share_of_the_questions_has_peoples_labels(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = run("half", monkeypatch)["train"]
    soft, mixed = losses("reader_a"), losses("half")
    taken = {query for query in soft if uniform(0, query) < 0.5}
    assert counted == {"queries": 20, "queries_with_human_label": len(taken)} and 0 < len(taken) < 20
    selected = {(row["query_id"], row["passage_id"]) for row in people(SPLITS["train"]) if row["relevant"]}
    for query, by_passage in mixed.items():
        if query not in taken:
            assert by_passage == soft[query]
            continue
        assert by_passage == {one: 0.0 if (query, one) in selected else FAR for one in soft[query]}
        assert NO_PASSAGE in by_passage


def test_kl_learns_from_peoples_labels_what_it_would_from_them_alone(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = write_params(mixed={"labels": "half"}, human={"labels": "human", "losses": {"kl": 1}})
    tree = yaml.safe_load(Path("params.yaml").read_text())
    tree["mixed_labels"]["half"]["share"] = 1.0
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    run("half", monkeypatch)
    mixed, human = outcome(params, "mixed"), outcome(params, "human")
    assert torch.allclose(mixed.total, human.total, atol=1e-5)


def test_questions_of_a_lower_share_are_among_those_of_a_higher_one() -> None:
    soft, human = tiny.soft(SPLITS["train"]), people(SPLITS["train"])
    changed = []
    for share in (0.0, 0.3, 0.7, 1.0):
        found, replaced = with_people(soft, human, share, seed=0)
        changed.append({was["query_id"] for was, now in zip(soft, found, strict=True) if was != now})
        assert replaced == [label for label in human if label["query_id"] in changed[-1]]
    assert all(low < high for low, high in zip(changed, changed[1:], strict=False))
    assert (len(changed[0]), len(changed[-1])) == (0, 20)


def test_a_question_without_a_selection_and_a_pair_without_a_loss_stay_as_they_are() -> None:
    soft, human = tiny.soft(SPLITS["train"][:2]), people(SPLITS["train"][:2])
    soft[-1] |= {"nll_sum": None, "n_tokens": None}
    nobody = [label | {"relevant": 0} if label["query_id"] == "q0" else label for label in human]
    found, replaced = with_people(soft, nobody, 1.0, seed=0)
    assert {label["query_id"] for label in replaced} == {"q1"}
    assert [label for label in found if label["query_id"] == "q0"] == soft[: len(soft) // 2]
    assert found[-1] == soft[-1]


def test_a_question_whose_selected_passage_has_no_loss_keeps_its_soft_labels() -> None:
    soft, human = tiny.soft(SPLITS["train"][:1]), people(SPLITS["train"][:1])
    (selected,) = (label["passage_id"] for label in human if label["relevant"])
    soft = [label | {"nll_sum": None} if label["passage_id"] == selected else label for label in soft]
    assert with_people(soft, human, 1.0, seed=0) == (soft, [])


def test_peoples_labels_leave_the_scale_of_the_soft_ones_as_it_is(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = write_params(mixed={"labels": "half"})
    run("half", monkeypatch)
    alone, mixed = (train.load_sets(params, params.runs[name])[0] for name in ("kl", "mixed"))
    assert mixed.targets.scale == pytest.approx(alone.targets.scale, rel=0.05) and mixed.targets.scale < FAR / 2
    taken = {row["query_id"] for row in read_rows("data/labels/half/replaced-train.parquet", BINARY_LABELS)}
    for query, utility in zip(mixed.query_ids, mixed.targets.utility, strict=True):
        assert query not in taken or sorted(utility) == [0, 0, 1]


# -- params ----------------------------------------------------------------------------------------------------------


def refusal(**changes: Any) -> str:
    tree = tiny.with_runs(yaml.safe_load(tiny.PROFILE.read_text()))
    tree["mixed_labels"] = {"pair": {"kind": "both", **SOURCES}} | changes.pop("mixed_labels", {})
    tree["runs"] |= {"mine": tree["runs"]["kl"] | {"labels": "pair", "losses": LONG} | changes}
    with pytest.raises(ParamsError) as caught:
        parse_params(tree, "params.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"losses": {"kl": 1.0}}, "runs.mine.labels: no loss learns from data/labels/human, which 'pair' holds too"),
        ({"losses": {"infonce": 1.0, "kl": 0}}, "runs.mine.labels: no loss learns from data/labels/reader_a"),
        (
            {"losses": LONG | {"kl": {"weight": 1, "labels": "human"}}},
            "runs.mine.losses.kl.labels: kl learns from reader_a here, not from 'human'",
        ),
        ({"losses": LONG | {"kl": {"weight": 1, "labels": "humn"}}}, "runs.mine.losses.kl.labels: 'humn' is none of"),
        ({"losses": LONG | {"kl": {"weight": 1}}}, "runs.mine.losses.kl: write a weight, or {weight, labels}"),
        ({"losses": LONG | {"kl": {"weight": -1, "labels": "reader_a"}}}, "runs.mine.losses.kl: must be 0 or more"),
        ({"labels": "reader_a"}, "runs.mine.losses.infonce.labels: 'human' is none of reader_a"),
        ({"mixed_labels": {"human": {"kind": "both", **SOURCES}}}, "mixed_labels.human: another label source has this"),
        (
            {"mixed_labels": {"x": {"kind": "both", **SOURCES, "human": "data/labels/reader_a"}}},
            "mixed_labels.x.human: ",
        ),
        ({"mixed_labels": {"x": {"kind": "both", **SOURCES, "needs": "data/labels/human"}}}, "mixed_labels.x.needs: "),
        ({"mixed_labels": {"x": {"kind": "mixed", **SOURCES, "seed": 0}}}, "mixed_labels.x.share: missing"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], says: str) -> None:
    assert says in refusal(**changes)
