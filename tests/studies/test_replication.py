"""Studies over worlds: seeds of a world, the file of kept figures, and how many worlds are needed."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import comparison_world
import pytest
from scipy.stats import nct, t
from study_reports import experiment, report, with_settings

import compare
import use_profile
from bitter_retrieval.params import parse_params
from bitter_retrieval.studies import experiments, replication
from bitter_retrieval.studies.replication import (
    ReplicationError,
    contrast,
    detectable,
    figures,
    first_world,
    gather,
    seeds,
    unfinished,
    worlds_needed,
)
from bitter_retrieval.typed_yaml import parse_yaml

ROOT = Path(__file__).parents[2]
KEPT = Path("confirm.json")
WANTED = {f"world-{seed}": {"data.seed": str(seed), "++labels.human.seed": str(seed)} for seed in (101, 102, 103)}
TREE: dict[str, Any] = {"data": {"seed": 0}, "labels": {"human": {"kind": "annotators"}}, "train": {"epochs": 3}}


def world(score: float = 0.6) -> dict[str, Any]:
    em = {"a": {"infonce": 0.5, "kl": score, "bm25": 0.4}}
    return report(em, {"infonce": "human", "kl": "reader_a"}, {"human": 0.1, "reader_a": None}, "infonce")


@pytest.fixture
def dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The experiments that DVC knows, to be filled; the report of world-101 has 0.601, and so on."""
    known: list[dict[str, Any]] = []

    def git(*arguments: str) -> str:
        if arguments[0] == "rev-parse":
            return f"code-of-{arguments[-1].rstrip('^')}\n"
        return json.dumps(world(0.5 + int(arguments[1].split(":")[0][-3:]) / 1000))

    monkeypatch.setattr(experiments, "dvc", lambda *_: json.dumps([{"experiments": known}]))
    for module in (experiments, replication):
        monkeypatch.setattr(module, "git", git)
    monkeypatch.chdir(tmp_path)
    return known


def done(name: str, **changes: Any) -> dict[str, Any]:
    return experiment(name, with_settings(TREE, WANTED[name]) | changes)


# -- seeds ---------------------------------------------------------------------------------------------------------


def leaves(tree: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{at}{key}.")
        else:
            yield f"{at}{key}", value


@pytest.mark.parametrize("profile", ["default", "confirm", "spread"])
def test_a_world_has_seeds_of_its_own_for_all_that_is_drawn(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    tree = parse_yaml(use_profile.render(profile), "a profile")
    made = [seeds(parse_params(tree, profile), number) for number in (101, 102)]
    written = {key for key, value in leaves(tree) if key.rpartition(".")[2] in ("seed", "seeds") and value is not None}
    drawn = {key.lstrip("+") for key in made[0]}
    assert written - drawn <= {"compare.seed", "control.seed"}, "draws of the comparison alone are the same"
    assert all(one != other for one, other in zip(made[0].values(), made[1].values(), strict=True))
    parse_params(with_settings(tree, made[0]), profile)


def test_what_shares_a_seed_in_the_profile_shares_it_in_a_world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = seeds(parse_params(parse_yaml(use_profile.render("spread"), "a profile"), "spread"), 201)
    fits = [found[f"readers.reader_{number}.fit.seed"] for number in range(4)]
    assert fits == ["201000", "201001", "201002", "201003"] and found["train.seeds"] == "[201000]"


@pytest.mark.parametrize(
    ("changes", "why"), [({"seed": 0}, "data.seed is 0"), ({"source": "squad"}, "data.source is squad")]
)
def test_other_data_than_unseen_worlds_are_refused(
    changes: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    params = parse_params(parse_yaml(use_profile.render("confirm"), "a profile"), "confirm")
    assert first_world(params, "confirm") == 101
    with pytest.raises(ReplicationError, match=rf"{why}.*`python src/use_profile.py confirm`"):
        first_world(replace(params, data=replace(params.data, **changes)), "confirm")


# -- what is kept --------------------------------------------------------------------------------------------------


def test_figures_are_scores_errors_and_standard_errors() -> None:
    found = figures(world(0.6))
    assert found["scores"]["a"]["em"] == {"infonce": 0.5, "kl": 0.6, "bm25": 0.4}
    assert found["scores"]["a"]["retrieval"] == {}, "a metric that nobody has is left out"
    assert found["errors"] == {"human": 0.1, "reader_a": None} and found["labels"]["kl"] == "reader_a"
    assert found["se"]["a"]["kl"] == pytest.approx(0.01)
    without = world(0.6)
    without["differences"]["a"]["em"]["kl"]["mde"] = None
    assert figures(without)["se"]["a"]["kl"] is None


def test_a_report_of_the_stage_has_what_studies_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison_world.write_workspace(tmp_path)
    monkeypatch.chdir(tmp_path)
    compare.main()
    made = json.loads(Path("metrics/report.json").read_text())
    found, about = figures(made), made["about"]
    primary, reader = about["primary"], about["reader"]
    assert found["scores"][reader]["em"][primary] == made["systems"][primary]["scores"][reader]["em"]["mean"]
    assert found["errors"].keys() >= {found["labels"][primary]} and None not in found["about"].values()
    one = made["differences"][reader]["em"][primary]
    assert 0 < found["se"][reader][primary] < one["high"] - one["mean"]


def test_a_study_goes_on_from_its_file(dvc: list[dict[str, Any]]) -> None:
    assert unfinished(KEPT, WANTED, TREE) == WANTED and gather(KEPT, WANTED, "HEAD") == {} and not KEPT.exists()
    dvc += [done("world-102"), done("world-101"), experiment("world-103", TREE, "running")]
    found = gather(KEPT, WANTED, "HEAD")
    assert list(found) == ["world-101", "world-102"] and found["world-102"]["code"] == "code-of-world-102"
    assert contrast(found, "kl", "infonce", "a") == pytest.approx([0.101, 0.102])
    dvc.clear()  # another clone, or another commit
    assert gather(KEPT, WANTED, "HEAD") == found
    assert list(unfinished(KEPT, WANTED, TREE)) == ["world-103"]
    dvc.append(done("world-103"))
    assert list(gather(KEPT, WANTED, "HEAD")) == list(WANTED) and not unfinished(KEPT, WANTED, TREE)


def test_frozen_parameters_stay(dvc: list[dict[str, Any]]) -> None:
    dvc += [done("world-101"), done("world-102", train={"epochs": 4})]
    with pytest.raises(
        ReplicationError, match=r"experiment world-102 has train.epochs = 4, and the .* have 3: .*frozen"
    ):
        gather(KEPT, WANTED, "HEAD")
    assert not KEPT.exists()
    del dvc[1]
    gather(KEPT, WANTED, "HEAD")
    changed = TREE | {"train": {"epochs": 3, "warmup": 0.1}}
    with pytest.raises(
        ReplicationError, match=r"params.yaml has train.warmup = 0.1, .* have None.*delete confirm.json"
    ):
        unfinished(KEPT, WANTED, changed)
    assert list(unfinished(KEPT, WANTED, TREE | {"data": {"seed": 7}})) == ["world-102", "world-103"]


def test_worlds_of_another_comparison_are_refused(dvc: list[dict[str, Any]]) -> None:
    dvc += [done("world-101"), done("world-102")]
    gather(KEPT, WANTED, "HEAD")
    kept = json.loads(KEPT.read_text())
    kept["experiments"]["world-102"]["about"]["seeds"] = 3
    KEPT.write_text(json.dumps(kept))
    with pytest.raises(ReplicationError, match="world-101 and world-102 differ in seeds: 2 and 3"):
        gather(KEPT, WANTED, "HEAD")


def test_a_score_that_is_absent_is_named() -> None:
    found = {"world-101": figures(world())}
    with pytest.raises(ReplicationError, match="world-101: its report has no em of mse with a"):
        contrast(found, "mse", "infonce", "a")
    with pytest.raises(ReplicationError, match="no retrieval of infonce, kl with a"):
        contrast(found, "kl", "infonce", "a", "retrieval")


# -- power ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("worlds", [3, 16])
def test_what_is_detectable_is_found_in_80_percent(worlds: int) -> None:
    noncentrality = detectable(0.04, worlds) / (0.04 / worlds**0.5)
    assert nct.sf(t.ppf(0.975, worlds - 1), worlds - 1, noncentrality) == pytest.approx(0.8, abs=1e-6)


def test_the_worlds_needed_are_the_fewest() -> None:
    for sd in (0.01, 0.032, 0.06):
        needed = worlds_needed(sd)
        assert detectable(sd, needed) <= 0.03 < detectable(sd, needed - 1)
    assert worlds_needed(0.0) == 2
