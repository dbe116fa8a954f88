"""The training loop on a toy problem: it learns, a seed gives the same weights each time, the right ones are kept."""

import copy
import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import yaml

import train as stage
from bitter_retrieval import training
from bitter_retrieval.encoder import Encoder, load_encoder
from bitter_retrieval.records import BINARY_LABELS, PREPARED, SOFT_LABELS, passage_texts, write_rows
from bitter_retrieval.training import (
    Metrics,
    Objective,
    TrainingError,
    TrainingSet,
    epoch_batches,
    labelled_batch,
    schedule,
    train_encoder,
    training_set,
    validate,
)

KL = tiny.PARAMS.runs["kl"]
CHANGES = {"epochs": 3, "queries_per_batch": 6, "learning_rate": 0.003, "micro_batch_tokens": 256, "mlflow": False}
SETTINGS = replace(tiny.PARAMS.train, **CHANGES)
TRAIN, VALIDATION = tiny.world(20), tiny.world(8, first=24)
Curve = list[tuple[int, Metrics]]


def sets(run: Any, encoder: Encoder) -> tuple[TrainingSet, TrainingSet]:
    if run.labels in ("human", "truth", "has_answer"):
        targets = tiny.truth_labelled(TRAIN), tiny.truth_labelled(VALIDATION)
    else:
        first = tiny.soft_labelled(TRAIN)
        targets = first, tiny.soft_labelled(VALIDATION, scale=first.scale)
    return training_set(TRAIN, targets[0], encoder), training_set(VALIDATION, targets[1], encoder)


def fit(run: Any = KL, seed: int = 0, dropout: float = 0.0, **changes: Any) -> tuple[Encoder, Metrics, Curve]:
    """Train a tiny encoder; returns it, the figures of the kept checkpoint, and what on_step was told."""
    encoder, curve = tiny.tiny_encoder().eval(), []  # as load_encoder gives it
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
    torch.seed(), np.random.seed()  # the state of the generators before must not matter
    settings = replace(SETTINGS, **changes)
    figures = train_encoder(encoder, *sets(run, encoder), run, settings, seed, lambda *told: curve.append(told))
    return encoder, figures, curve


def fit_until_broken(step: int | None) -> None:
    """Train with weights that turn NaN after a step; None: before the first."""
    encoder = tiny.tiny_encoder()

    def breaks(now: int | None, _: Metrics) -> None:
        if now == step:
            next(encoder.parameters()).data[:] = math.nan

    breaks(None, {})
    train_encoder(encoder, *sets(KL, encoder), KL, SETTINGS, 0, breaks)


def same(left: Encoder, right: Encoder) -> bool:
    weights = right.state_dict()
    return all(value.equal(weights[name]) for name, value in left.state_dict().items())


# -- learning --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", tiny.PARAMS.runs)
def test_every_run_lowers_its_loss(name: str) -> None:
    run = tiny.PARAMS.runs[name]
    start = tiny.tiny_encoder()
    objective = Objective(run, 256)
    before = [validate(start, data, objective, 6)["validation_loss"] for data in sets(run, start)]
    encoder, figures, _ = fit(run)
    after = validate(encoder, sets(run, encoder)[0], objective, 6)["validation_loss"]
    assert after < 0.8 * before[0]
    assert figures["validation_loss"] < before[1]


def test_own_passage_comes_first_after_training() -> None:
    encoder, _, _ = fit(epochs=8)
    start = tiny.tiny_encoder()
    before, after = (validate(model, sets(KL, model)[1], Objective(KL, 256), 6) for model in (start, encoder))
    assert after["validation_top1"] == 1 > 0.9 > before["validation_top1"]


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_same_seed_same_weights_and_other_seed_others(dropout: float) -> None:
    first, figures, curve = fit(seed=1, dropout=dropout)
    second, again, curve_again = fit(seed=1, dropout=dropout)
    assert same(first, second) and figures == again and curve == curve_again
    assert not same(first, fit(seed=2, dropout=dropout)[0])


def test_dropout_is_on_in_training_alone() -> None:
    without, dropped = fit(epochs=1), fit(epochs=1, dropout=0.3)
    assert dropped[2][0][1]["loss"] != without[2][0][1]["loss"]
    figures = {name: dropped[1][name] for name in ("validation_loss", "validation_top1")}
    assert validate(dropped[0], sets(KL, dropped[0])[1], Objective(KL, 256), 6) == figures


def test_every_step_is_told_with_its_rate_and_terms() -> None:
    run = tiny.PARAMS.runs["full_modular"]
    _, figures, curve = fit(run, epochs=2)
    steps = [step for step, metrics in curve if "loss" in metrics]
    assert steps == list(range(int(figures["steps"]))) and len(steps) == 8
    terms = curve[0][1]
    assert set(terms) >= {"learning_rate", "gradient_norm", "loss", *run.losses, *(f"{n}_skipped" for n in run.losses)}
    assert terms["loss"] == pytest.approx(sum(weight * terms[name] for name, weight in run.losses.items()), rel=1e-5)
    told = [metrics["learning_rate"] for _, metrics in curve if "loss" in metrics]
    wanted = [SETTINGS.learning_rate * schedule(step, 8, SETTINGS.warmup, SETTINGS.schedule) for step in steps]
    assert told == pytest.approx(wanted)
    assert [step for step, metrics in curve if "validation_loss" in metrics] == [3, 7]


def test_runs_own_learning_rate_replaces_the_common_one() -> None:
    _, _, curve = fit(replace(KL, learning_rate=1e-4), warmup=0.0, schedule="constant", epochs=1)
    assert {metrics["learning_rate"] for _, metrics in curve if "loss" in metrics} == {1e-4}


def test_loss_of_weight_zero_is_left_out() -> None:
    encoder, _, curve = fit(replace(KL, losses={"kl": 1.0, "mse": 0.0}))
    assert same(encoder, fit(KL)[0]) and "mse" not in curve[0][1]


# -- which checkpoint ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("select", "kept"), [("loss", 1), ("last", 3)])
def test_kept_checkpoint_is_the_one_selected(select: str, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    losses, states = [3.0, 1.0, 2.0, 1.0], []

    def scripted(encoder: Encoder, *_: Any) -> Metrics:
        states.append(copy.deepcopy(encoder))
        return {"validation_loss": losses[len(states) - 1], "validation_top1": len(states) / 10}

    monkeypatch.setattr(training, "validate", scripted)
    encoder, figures, _ = fit(select=select, epochs=4)
    assert [same(encoder, state) for state in states] == [epoch == kept for epoch in range(4)]
    assert figures == {"validation_loss": losses[kept], "validation_top1": (kept + 1) / 10, "steps": 16.0}
    assert not encoder.training


def test_figures_are_those_of_the_kept_weights() -> None:
    encoder, figures, curve = fit(KL, learning_rate=0.05, epochs=5)  # too fast: the loss goes up and down
    losses = [metrics["validation_loss"] for _, metrics in curve if "validation_loss" in metrics]
    assert len(losses) == 5 and figures["validation_loss"] == min(losses) < max(losses)
    found = validate(encoder, sets(KL, encoder)[1], Objective(KL, 256), 6)
    assert found == {name: figures[name] for name in found}


# -- refusals --------------------------------------------------------------------------------------------------------


def test_loss_that_is_not_finite_names_step_and_queries() -> None:
    groups = sets(KL, tiny.tiny_encoder())[0].groups
    first = [TRAIN[place]["query_id"] for place in next(epoch_batches(groups, 6, 0, 0))[:5]]
    wanted = rf"step 0: loss .*'kl': nan.* first queries \['{first[0]}', .*'{first[4]}'\]"
    with pytest.raises(TrainingError, match=wanted):
        fit_until_broken(None)


def test_weights_that_break_later_are_named_by_their_step() -> None:
    with pytest.raises(TrainingError, match=r"step 5: .*'q\d+'.*Lower the learning rate"):
        fit_until_broken(4)


def test_weights_that_break_at_an_epochs_end_are_not_kept() -> None:
    with pytest.raises(TrainingError, match="step 3: .*validation_loss.*nan.*not finite"):
        fit_until_broken(3)  # validation is the next to see them


@pytest.mark.parametrize("name", ["infonce", "margin"])
def test_labels_from_which_nothing_can_be_learnt_are_refused(name: str) -> None:
    run, encoder = tiny.PARAMS.runs[name], tiny.tiny_encoder()
    train, validation = sets(run, encoder)
    silent = replace(
        train.targets,
        relevant=[np.zeros_like(relevant) for relevant in train.targets.relevant],
        nll=[np.ones_like(nll) for nll in train.targets.nll],
    )
    with pytest.raises(TrainingError, match=f"none of 20 queries has labels that {name} can learn from"):
        train_encoder(encoder, replace(train, targets=silent), validation, run, SETTINGS, 0, lambda *_: None)


# -- batches ---------------------------------------------------------------------------------------------------------


def ragged(sizes: list[int]) -> list[np.ndarray]:
    ends = np.cumsum(sizes)
    places = np.random.default_rng(5).permutation(ends[-1])
    return [places[end - size : end] for size, end in zip(sizes, ends, strict=True)]


@pytest.mark.parametrize("queries", [4, 5, 9, 100])
def test_batches_hold_whole_groups_and_every_query_once(queries: int) -> None:
    groups = ragged([1, 2, 3, 4, 4, 1, 2, 3, 4, 1, 1])
    group_of = {int(place): number for number, group in enumerate(groups) for place in group}
    for epoch in range(3):
        batches = [batch.tolist() for batch in epoch_batches(groups, queries, 0, epoch)]
        assert sorted(place for batch in batches for place in batch) == list(range(26))
        assert all(0 < len(batch) <= queries for batch in batches)
        for batch in batches:
            members = {group_of[place] for place in batch}
            assert len(batch) == sum(len(groups[number]) for number in members)
        for left, right in zip(batches, batches[1:], strict=False):  # filled: the next group did not fit any more
            assert len(left) + len(groups[group_of[right[0]]]) > queries


def test_group_that_is_larger_than_a_batch_is_cut_and_keeps_its_queries() -> None:
    batches = [batch.tolist() for batch in epoch_batches(ragged([11, 2, 3, 9]), 4, 0, 0)]
    assert sorted(place for batch in batches for place in batch) == list(range(25))
    assert max(map(len, batches)) == 4


def test_order_follows_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(list(epoch_batches(ragged([2] * 12), 6, seed, epoch))).tolist()

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


@pytest.mark.parametrize("source", ["soft", "binary"])
def test_labelled_batch_is_what_a_slow_loop_gives(source: str) -> None:
    encoder = tiny.tiny_encoder(query_prefix="was ", passage_prefix="owns ")
    targets = tiny.soft_labelled(TRAIN) if source == "soft" else tiny.truth_labelled(TRAIN)
    places = np.array([7, 2, 3, 11, 0])
    batch = labelled_batch(encoder, training_set(TRAIN, targets, encoder), places, 64)
    texts = passage_texts(TRAIN)
    used = {p["passage_id"] for place in places for p in TRAIN[place]["passages"]}
    columns = [passage_id for passage_id in texts if passage_id in used]
    assert batch.similarity.shape == (5, len(columns)) and len(columns) < 15  # some passages are shared
    for row, place in enumerate(places):
        query = encoder.embed([TRAIN[place]["query"]], "query", 64)[0]
        candidates = [p["passage_id"] for p in TRAIN[place]["passages"]]
        assert batch.no_passage_nll[row] == pytest.approx(targets.no_passage_nll[place])
        for column, passage_id in enumerate(columns):
            passage = encoder.embed([texts[passage_id]], "passage", 64)[0]
            assert batch.similarity[row, column].item() == pytest.approx(float(query @ passage), abs=1e-6)
            own = passage_id in candidates
            at = candidates.index(passage_id) if own else None
            assert (bool(batch.own[row, column]), bool(batch.others[row, column])) == (own, not own)
            assert bool(batch.relevant[row, column]) == (own and bool(targets.relevant[place][at]))
            assert batch.utility[row, column] == pytest.approx(targets.utility[place][at] if own else 0)
            assert not own or batch.nll[row, column] == pytest.approx(targets.nll[place][at])
    assert bool(batch.relevant.any()) == (source == "binary") and bool(batch.utility.any()) == (source == "soft")


def test_validation_is_weighted_by_queries_and_counts_first_places() -> None:
    encoder, run = tiny.tiny_encoder(), tiny.PARAMS.runs["infonce"]
    _, data = sets(run, encoder)
    found = validate(encoder, data, Objective(run, 256), 6)  # batches of 6 and 2
    losses = [Objective(run, 256)(encoder, data, np.arange(*ends))[0].item() for ends in ((0, 6), (6, 8))]
    assert found["validation_loss"] == pytest.approx((6 * losses[0] + 2 * losses[1]) / 8, rel=1e-5)
    hits = 0
    for row in VALIDATION:
        vectors = encoder.embed([p["text"] for p in row["passages"]], "passage", 64)
        best = np.argmax(vectors @ encoder.embed([row["query"]], "query", 64)[0])
        hits += row["passages"][best]["role"] == "plain"
    assert found["validation_top1"] == hits / 8 and 0 < hits < 8


def test_batch_without_a_relevant_candidate_has_no_right_first_place() -> None:
    encoder, run = tiny.tiny_encoder(), tiny.PARAMS.runs["infonce"]
    _, data = sets(run, encoder)
    relevant = [r if place < 6 else np.zeros_like(r) for place, r in enumerate(data.targets.relevant)]
    fewer = replace(data, targets=replace(data.targets, relevant=relevant))
    whole, parts = (validate(encoder, fewer, Objective(run, 256), queries)["validation_top1"] for queries in (8, 6))
    assert whole == parts


# -- learning rate ---------------------------------------------------------------------------------------------------


def test_schedules_have_their_shapes() -> None:
    rates = {kind: [schedule(s, 100, 0.1, kind) for s in range(100)] for kind in ("cosine", "linear", "constant")}
    for kind, rate in rates.items():
        assert rate[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
        assert rate[10] == 1.0 and all(a >= b for a, b in zip(rate[10:], rate[11:], strict=False))
        assert rate[55] == pytest.approx({"cosine": 0.5, "linear": 0.5, "constant": 1.0}[kind])
        assert (0 < rate[99] < 0.02) == (kind != "constant")
    assert rates["cosine"][30] == pytest.approx((1 + math.cos(math.pi * 20 / 90)) / 2) != rates["linear"][30]


@pytest.mark.parametrize("warmup", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_schedule_of_few_steps_stays_between_zero_and_one(steps: int, warmup: float) -> None:
    assert all(0 < schedule(step, steps, warmup, "cosine") <= 1 for step in range(steps))
    assert max(schedule(step, steps, warmup, "cosine") for step in range(steps)) == 1


# -- the stage -------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose stages before train are done, with the real profile shrunk."""
    tree = yaml.safe_load(tiny.PROFILE.read_text())
    tree["train"] |= CHANGES | {"epochs": 2, "seeds": [0, 4]}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    for split, rows in (("train", TRAIN), ("validation", VALIDATION)):
        write_rows(tmp_path / f"data/prepared/{split}.parquet", rows, PREPARED)
        write_rows(tmp_path / f"data/labels/human/{split}.parquet", tiny.truth(rows), BINARY_LABELS)
        write_rows(tmp_path / f"data/labels/reader_a/{split}.parquet", tiny.soft(rows), SOFT_LABELS)
    tiny.tiny_encoder().save(tmp_path / "models/encoders/mini")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stage, "keep_freed_memory", lambda: None)
    return tmp_path


@pytest.mark.parametrize("run", ["infonce", "kl"])
def test_stage_writes_an_encoder_a_seed_and_curves(run: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train.py", run])
    stage.main()
    files = [project / f"models/runs/{run}/seed{seed}/model.safetensors" for seed in (0, 4)]
    weights = [file.read_bytes() for file in files]
    assert weights[0] != weights[1] != (project / "models/encoders/mini/model.safetensors").read_bytes()
    assert load_encoder(files[0].parent).usage == load_encoder(project / "models/encoders/mini").usage
    with (project / f"plots/curves/{run}.csv").open() as file:
        curve = list(csv.DictReader(file))
    assert [(row["seed"], row["step"]) for row in curve] == [(s, str(step)) for s in "04" for step in range(8)]
    assert [step for step, row in enumerate(curve) if row["validation_loss"]] == [3, 7, 11, 15]
    curves = (project / f"plots/curves/{run}.csv").read_bytes()
    stage.main()
    assert [file.read_bytes() for file in files] == weights
    assert (project / f"plots/curves/{run}.csv").read_bytes() == curves


def test_validation_utilities_are_measured_by_the_training_scale(project: Path) -> None:
    doubled = [{**label, "nll_sum": 3 * label["nll_sum"]} for label in tiny.soft(VALIDATION)]
    write_rows(project / "data/labels/reader_a/validation.parquet", doubled, SOFT_LABELS)
    params = stage.load_params()
    train, validation = stage.load_sets(params, params.runs["kl"])
    assert validation.targets.scale == train.targets.scale == tiny.soft_labelled(TRAIN).scale
