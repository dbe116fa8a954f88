"""The training loop on a toy problem: it learns, a seed gives the same weights each time, the right ones are kept."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor

from bitter_retrieval.encoders.encoder import Encoder
from bitter_retrieval.labels.targets import binary_targets
from bitter_retrieval.models.schedules import schedule
from bitter_retrieval.records import Row, passage_texts
from bitter_retrieval.training import loop as training
from bitter_retrieval.training.loop import ALIKE, UTILITY_MAP_RATE, train_encoder, validate
from bitter_retrieval.training.losses import FUNCTIONS, UtilityMap
from bitter_retrieval.training.objective import Objective, Outcome, gradient_norms, mean_cosine, similarity_gap
from bitter_retrieval.training.sets import TrainingError, TrainingSet, epoch_batches, training_set
from bitter_retrieval.training.state import Metrics

KL = tiny.RUNS["kl"]
OWN = tiny.RUNS | {"margin": replace(tiny.RUNS["margin"], in_batch="none")}  # margin on a query's own candidates alone
CHANGES = {"epochs": 3, "queries_per_batch": 6, "learning_rate": 0.003, "micro_batch_tokens": 256}
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
    """Train a tiny encoder; returns it, the figures of the kept checkpoint, and the calls of on_step."""
    encoder, curve = tiny.tiny_encoder().eval(), []  # as load_encoder gives it
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
    torch.seed(), np.random.seed()  # the state of the generators before must not matter
    settings = replace(SETTINGS, **changes)
    figures = train_encoder(encoder, *sets(run, encoder), run, settings, seed, lambda *told: curve.append(told))
    return encoder, figures, curve


def fit_until_broken(step: int | None, break_it: Callable[[Encoder], object]) -> None:
    """Train an encoder that breaks after a step; None: before the first."""
    encoder = tiny.tiny_encoder()

    def breaks(now: int | None, _: Metrics) -> None:
        if now == step:
            break_it(encoder)

    breaks(None, {})
    train_encoder(encoder, *sets(KL, encoder), KL, SETTINGS, 0, breaks)


def spoil(encoder: Encoder) -> None:
    next(encoder.parameters()).data[:] = math.nan


def flatten(encoder: Encoder) -> None:
    """Every token's vector is the bias of the last layer norm."""
    norm = encoder.model.encoder.layer[-1].output.LayerNorm
    norm.weight.data[:] = 0
    norm.bias.data[:] = 1


def outcome(run: Any, encoder: Encoder, places: list[int] | None = None, **how: Any) -> Outcome:
    """The outcome of the run's objective for a batch of the training set."""
    return Objective(run, 64, **how)(encoder, sets(run, encoder)[0], np.array(places or [7, 2, 3, 11, 0]))


def same(left: Encoder, right: Encoder) -> bool:
    weights = right.state_dict()
    return all(value.equal(weights[name]) for name, value in left.state_dict().items())


# -- learning --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", tiny.RUNS)
def test_every_run_lowers_its_loss(name: str) -> None:
    run = tiny.RUNS[name]
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
    run = tiny.RUNS["full_modular"]
    _, _, curve = fit(run, epochs=2)
    steps = [step for step, metrics in curve if "loss" in metrics]
    assert steps == list(range(8))
    terms = curve[0][1]
    by_term = {name.format(term) for name in ("{}", "{}_skipped", "gradient/{}") for term in run.losses}
    assert set(terms) == {"learning_rate", "loss", "gradient_norm", "similarity_gap", "passage_cosine", *by_term}
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
    assert figures == {"validation_loss": losses[kept], "validation_top1": (kept + 1) / 10, "step": 4.0 * kept + 3}
    assert not encoder.training


def test_figures_are_those_of_the_kept_weights() -> None:
    encoder, figures, curve = fit(KL, learning_rate=0.05, epochs=5)  # too fast: the loss goes up and down
    losses = [metrics["validation_loss"] for _, metrics in curve if "validation_loss" in metrics]
    assert len(losses) == 5 and figures["validation_loss"] == min(losses) < max(losses)
    found = validate(encoder, sets(KL, encoder)[1], Objective(KL, 256), 6)
    assert found == {name: figures[name] for name in found}


# -- refusals --------------------------------------------------------------------------------------------------------


def first_queries() -> str:
    """A pattern for the start of an error at step 0."""
    first = next(epoch_batches(sets(KL, tiny.tiny_encoder())[0].groups, 6, 0, 0))[:5]
    return "step 0, first queries " + str([TRAIN[place]["query_id"] for place in first]).replace("[", r"\[")


def test_loss_that_is_not_finite_names_step_queries_and_term() -> None:
    with pytest.raises(TrainingError, match=rf"{first_queries()}: loss, kl not finite in .*'kl': nan.*at step 0"):
        fit_until_broken(None, spoil)


def test_of_several_terms_the_one_that_is_not_finite_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: Any) -> Any:
        value = FUNCTIONS["mse"](*given)
        return replace(value, mean=value.mean * math.inf)

    monkeypatch.setitem(FUNCTIONS, "margin", broken)
    with pytest.raises(TrainingError, match=r"step 0, .*: loss, margin not finite in .*'margin': inf"):
        fit(tiny.RUNS["full_modular"])


def test_weights_that_break_later_are_named_by_their_step() -> None:
    with pytest.raises(TrainingError, match=r"step 5, .*'q\d+'.*Lower the learning rate"):
        fit_until_broken(4, spoil)


def test_weights_that_break_at_an_epochs_end_are_not_kept() -> None:
    with pytest.raises(TrainingError, match="step 3: .*validation_loss.*nan.*not finite"):
        fit_until_broken(3, spoil)  # validation is the next to see them


def test_gradient_that_is_not_finite_never_reaches_the_weights() -> None:
    encoder, weights = None, None

    def overflow(given: Encoder) -> None:
        nonlocal encoder, weights
        encoder, weights = given, copy.deepcopy(given.state_dict())
        next(given.parameters()).register_hook(lambda gradient: gradient * math.inf)

    with pytest.raises(TrainingError, match=r"step 2, .*: gradient_norm not finite"):
        fit_until_broken(1, overflow)
    assert all(value.equal(weights[name]) for name, value in encoder.state_dict().items())


def test_memory_that_does_not_suffice_is_named_with_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(training, "_step", fails)
    said = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"
    with pytest.raises(TrainingError, match=r"step 0: .* of 6 queries .*recompute to true, or lower train\.queries"):
        fit()
    with pytest.raises(TrainingError, match=r"In params.yaml, lower train.queries_per_batch"):
        fit(recompute=True)
    said = "shapes cannot be multiplied"
    with pytest.raises(RuntimeError, match=said):
        fit()


@pytest.mark.parametrize("step", [None, 4])
def test_collapse_is_named_with_what_to_do(step: int | None) -> None:
    at = first_queries() if step is None else "step 5, first queries"
    with pytest.raises(TrainingError, match=rf"{at}.*: collapse: every passage has .* Lower the learning rate"):
        fit_until_broken(step, flatten)


def one_candidate(rows: list[Row]) -> list[Row]:
    return [{**row, "passages": [p for p in row["passages"] if p["role"] == "plain"]} for row in rows]


def fit_single(queries: int) -> Curve:
    """Train on eleven pairs of a query and its passage, each a group of its own."""
    run, curve = tiny.RUNS["infonce"], []
    rows = [{**row, "group_id": row["query_id"]} for row in one_candidate(TRAIN[:11])]
    encoder = tiny.tiny_encoder()
    data = training_set(rows, binary_targets(rows, tiny.truth(rows), "truth"), encoder)
    settings = replace(SETTINGS, queries_per_batch=queries)
    train_encoder(encoder, data, sets(run, encoder)[1], run, settings, 0, lambda *told: curve.append(told))
    return curve


def test_batches_without_negatives_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"no batch has negatives.*'q\d+'.*Raise train.queries_per_batch"):
        fit_single(1)


def test_a_last_batch_without_negatives_is_skipped_and_counted() -> None:
    skipped = [metrics["infonce_skipped"] for _, metrics in fit_single(2) if "loss" in metrics]
    assert skipped == 3 * [0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("name", ["infonce", "margin"])
def test_labels_from_which_nothing_can_be_learnt_are_refused(name: str) -> None:
    run, encoder = OWN[name], tiny.tiny_encoder()
    train, validation = sets(run, encoder)
    silent = replace(
        train.targets,
        relevant=[np.zeros_like(relevant) for relevant in train.targets.relevant],
        nll=[np.ones_like(nll) for nll in train.targets.nll],
    )
    with pytest.raises(TrainingError, match=f"none of 20 queries has labels that {name} can learn from"):
        train_encoder(encoder, replace(train, targets=silent), validation, run, SETTINGS, 0, lambda *_: None)


@pytest.mark.parametrize("name", ["infonce", "margin"])
def test_validation_labels_that_select_nothing_are_refused(name: str) -> None:
    """A loss of 0 at every epoch's end would silently keep the first checkpoint."""
    run, encoder = OWN[name], tiny.tiny_encoder()
    train, validation = sets(run, encoder)
    silent = replace(
        validation.targets,
        relevant=[np.zeros_like(relevant) for relevant in validation.targets.relevant],
        nll=[np.ones_like(nll) for nll in validation.targets.nll],
    )
    with pytest.raises(TrainingError, match=f"none of 8 validation queries has labels that {name} can measure.*Check"):
        train_encoder(encoder, train, replace(validation, targets=silent), run, SETTINGS, 0, lambda *_: None)


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


@pytest.mark.parametrize(("source", "run"), [("soft", KL), ("binary", tiny.RUNS["infonce"])])
def test_labelled_batch_is_what_a_slow_loop_gives(source: str, run: Any) -> None:
    encoder = tiny.tiny_encoder(query_prefix="was ", passage_prefix="owns ")
    targets = sets(run, encoder)[0].targets
    places = [7, 2, 3, 11, 0]
    batch = outcome(run, encoder, places).batch
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
    encoder, run = tiny.tiny_encoder(), tiny.RUNS["infonce"]
    _, data = sets(run, encoder)
    found = validate(encoder, data, Objective(run, 256), 6)  # batches of 6 and 2
    losses = [Objective(run, 256)(encoder, data, np.arange(*ends)).total.item() for ends in ((0, 6), (6, 8))]
    assert found["validation_loss"] == pytest.approx((6 * losses[0] + 2 * losses[1]) / 8, rel=1e-5)
    hits = 0
    for row in VALIDATION:
        vectors = encoder.embed([p["text"] for p in row["passages"]], "passage", 64)
        best = np.argmax(vectors @ encoder.embed([row["query"]], "query", 64)[0])
        hits += row["passages"][best]["role"] == "plain"
    assert found["validation_top1"] == hits / 8 and 0 < hits < 8


def test_batch_without_a_relevant_candidate_has_no_right_first_place() -> None:
    encoder, run = tiny.tiny_encoder(), tiny.RUNS["infonce"]
    _, data = sets(run, encoder)
    relevant = [r if place < 6 else np.zeros_like(r) for place, r in enumerate(data.targets.relevant)]
    fewer = replace(data, targets=replace(data.targets, relevant=relevant))
    whole, parts = (validate(encoder, fewer, Objective(run, 256), queries)["validation_top1"] for queries in (8, 6))
    assert whole == parts
    relevant = [np.full_like(r, place < 6) for place, r in enumerate(data.targets.relevant)]
    right = replace(data, targets=replace(data.targets, relevant=relevant))
    assert validate(encoder, right, Objective(run, 256), 6)["validation_top1"] == 1  # of the six that have a right one


def test_validation_loss_is_a_mean_over_the_queries_that_count_however_they_are_batched() -> None:
    encoder, run = tiny.tiny_encoder(), OWN["margin"]
    _, data = sets(run, encoder)

    def tied(values: list[np.ndarray]) -> list[np.ndarray]:
        return [np.full_like(own, 0.5) if place in (1, 2, 7) else own for place, own in enumerate(values)]

    fewer = replace(data, targets=replace(data.targets, nll=tied(data.targets.nll), utility=tied(data.targets.utility)))
    losses = [validate(encoder, fewer, Objective(run, 256), queries)["validation_loss"] for queries in (8, 6, 2)]
    assert losses == pytest.approx([losses[0]] * 3) and losses[0] > 0
    assert Objective(run, 256)(encoder, fewer, np.arange(8)).metrics["margin_skipped"] == 3


# -- draws of losses -------------------------------------------------------------------------------------------------


def with_all_relevant(encoder: Encoder) -> TrainingSet:
    data = sets(tiny.RUNS["infonce"], encoder)[0]
    relevant = [np.ones_like(own) for own in data.targets.relevant]
    return replace(data, targets=replace(data.targets, relevant=relevant))


def test_a_positive_is_drawn_by_seed_and_step_in_training_and_none_when_measuring() -> None:
    encoder, run = tiny.tiny_encoder(), replace(tiny.RUNS["infonce"], positives="one")
    data, places = with_all_relevant(encoder), np.arange(6)

    def lots(step: int | None, seed: int = 3) -> Tensor:
        return Objective(run, 256, seed=seed)(encoder, data, places, step).batch.lots

    assert lots(7).equal(lots(7)) and lots(None) is None
    assert not lots(7).equal(lots(8)) and not lots(7).equal(lots(7, seed=4))
    each = Objective(replace(run, positives="each"), 256)
    assert each(encoder, data, places, 7).batch.lots is None
    assert Objective(run, 256)(encoder, data, places).total.equal(each(encoder, data, places).total)


def test_a_training_that_draws_its_positives_gives_the_same_weights_each_time() -> None:
    run, start = replace(tiny.RUNS["infonce"], positives="one"), tiny.tiny_encoder()
    data = with_all_relevant(start), sets(run, start)[1]

    def weights(seed: int) -> dict[str, Tensor]:
        encoder = tiny.tiny_encoder()
        train_encoder(encoder, *data, run, SETTINGS, seed, lambda *_: None)
        return encoder.state_dict()

    first, again = weights(0), weights(0)
    assert all(value.equal(again[name]) for name, value in first.items())


# -- what is told of a step ------------------------------------------------------------------------------------------


def test_gradient_norms_are_those_of_each_weighted_term_alone() -> None:
    run, encoder = tiny.RUNS["full_modular"], tiny.tiny_encoder()
    found = outcome(run, encoder)
    norms = gradient_norms(found)
    assert len({round(norm.item(), 6) for norm in norms.values()}) == 4
    for name, weight in run.losses.items():
        queries, passages = (vectors.detach().requires_grad_() for vectors in (found.queries, found.passages))
        batch = replace(found.batch, similarity=queries @ passages.T)
        objective = Objective(run, 64)
        FUNCTIONS[name](batch, objective.settings, objective.utility_map).mean.backward()
        slow = weight * math.sqrt(sum(part.grad.square().sum().item() for part in (queries, passages)))
        assert norms[f"gradient/{name}"].item() == pytest.approx(slow, rel=1e-5)


def test_gradient_norms_leave_the_backward_pass_as_it_is() -> None:
    def gradients(asked: bool) -> list[Tensor]:
        encoder = tiny.tiny_encoder()
        found = outcome(tiny.RUNS["full_modular"], encoder)
        if asked:
            gradient_norms(found)
        assert all(parameter.grad is None for parameter in encoder.parameters())
        found.total.backward()
        return [parameter.grad for parameter in encoder.parameters() if parameter.grad is not None]

    with_them, without = gradients(True), gradients(False)
    assert len(with_them) > 10 and all(a.equal(b) for a, b in zip(with_them, without, strict=True))


def test_similarity_gap_is_what_a_slow_loop_gives() -> None:
    batch = outcome(KL, tiny.tiny_encoder()).batch
    best = batch.own.clone()
    best[0] = False  # none is best: left out
    best[1:3] &= batch.nll[1:3] < 1  # the supporting one
    best[3, best[3].nonzero()[0]] = False  # two are best
    gaps = []
    for row in range(1, 4):  # of row 4 all are best: left out too
        own = batch.own[row].nonzero()[:, 0].tolist()
        of = {True: [], False: []}
        for column in own:
            of[bool(best[row, column])].append(batch.similarity[row, column].item())
        gaps.append(np.mean(of[True]) - np.mean(of[False]))
    assert similarity_gap(batch, best).item() == pytest.approx(np.mean(gaps), abs=1e-6) != 0
    assert math.isnan(similarity_gap(batch, batch.own).item())


def test_gap_and_cosine_that_do_not_exist_are_not_told() -> None:
    told = [set(metrics) for _, metrics in fit_single(2) if "loss" in metrics]
    assert told and not any({"similarity_gap", "passage_cosine"} & names for names in told)


@pytest.mark.parametrize("spread", [0.0, 0.01, 0.032, 0.035, 1.0])
def test_mean_cosine_is_the_mean_over_pairs_also_near_one(spread: float) -> None:
    generator = torch.Generator().manual_seed(0)
    shared, own = torch.randn(1, 64, generator=generator), torch.randn(1500, 64, generator=generator)
    vectors = torch.nn.functional.normalize(shared + spread * own, dim=-1)
    exact = vectors.double() @ vectors.double().T
    slow = (exact.sum() - exact.trace()).item() / (1500 * 1499)
    assert mean_cosine(vectors).item() == pytest.approx(slow, abs=2e-6)
    assert (slow > ALIKE) == (spread < 0.0335)


# -- precision, memory, sides ----------------------------------------------------------------------------------------


def test_reduced_precision_is_that_of_encoding_alone() -> None:
    full, reduced = (outcome(KL, tiny.tiny_encoder(), precision=name) for name in ("float32", "bfloat16"))
    difference = (full.batch.similarity - reduced.batch.similarity).abs().max()
    assert 1e-5 < difference < 0.05
    assert {reduced.batch.similarity.dtype, reduced.queries.dtype, reduced.total.dtype} == {torch.float32}
    assert reduced.batch.similarity.equal(reduced.queries @ reduced.passages.T)


def test_training_in_reduced_precision_learns_with_full_weights() -> None:
    encoder, figures, curve = fit(precision="bfloat16")
    assert {weights.dtype for weights in encoder.parameters()} == {torch.float32}
    assert figures["validation_loss"] < 0.8 * curve[0][1]["loss"]
    assert not same(encoder, fit()[0])


def test_recomputed_activations_give_the_same_weights_from_less_memory() -> None:
    def kept(recompute: bool) -> int:
        """Numbers that the graph of a batch holds for its backward pass."""
        sizes: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        encoder = tiny.tiny_encoder().train()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            outcome(KL, encoder, recompute=recompute)
        return sum(sizes.values())

    assert kept(True) < kept(False) / 5
    assert same(fit(dropout=0.2, recompute=True)[0], fit(dropout=0.2)[0])


def test_training_queries_alone_leaves_passages_where_they_were() -> None:
    run = replace(KL, trains="query")
    start = tiny.tiny_encoder()
    encoder, figures, curve = fit(run, epochs=8, queries_per_batch=8)
    both, _, other = fit(epochs=8, queries_per_batch=8)
    assert not same(encoder, both) and not same(encoder, start)
    data = sets(KL, start)[1]
    queries = encoder.embed([row["query"] for row in VALIDATION], "query", 64)
    passages = start.embed(list(passage_texts(VALIDATION).values()), "passage", 64)
    hits = [
        np.argmax(passages[own] @ query) == np.argmin(nll)
        for query, own, nll in zip(queries, data.candidates, data.targets.nll, strict=True)
    ]
    assert figures["validation_top1"] == np.mean(hits) > validate(start, data, Objective(KL, 256), 6)["validation_top1"]
    assert "query_cosine" in curve[0][1] and "passage_cosine" in other[0][1]
    assert curve[0][1]["loss"] == pytest.approx(other[0][1]["loss"]) and curve[1][1]["loss"] != other[1][1]["loss"]


def test_texts_that_lose_their_tail_are_counted() -> None:
    encoder = tiny.tiny_encoder()
    whole = sets(KL, encoder)[0]
    lengths = sorted(map(len, [*whole.queries, *whole.passages]))
    assert whole.cut == 0 and lengths[0] < lengths[-3]
    encoder.usage = replace(encoder.usage, max_length=lengths[-3])
    assert sets(KL, encoder)[0].cut == sum(length > lengths[-3] for length in lengths)
    encoder.usage = replace(encoder.usage, max_length=lengths[0] - 1)
    assert sets(KL, encoder)[0].cut == len(lengths)


# -- optimiser and learning rate ---------------------------------------------------------------------------------------


def test_schedules_have_their_shapes() -> None:
    rates = {kind: [schedule(s, 100, 0.1, kind) for s in range(100)] for kind in ("cosine", "linear", "constant")}
    for kind, rate in rates.items():
        assert rate[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
        assert rate[10] == 1.0 and all(a >= b for a, b in zip(rate[10:], rate[11:], strict=False))
        assert rate[55] == pytest.approx({"cosine": 0.5, "linear": 0.5, "constant": 1.0}[kind])
        assert (0 < rate[99] < 0.02) == (kind != "constant")
    assert rates["cosine"][30] == pytest.approx((1 + math.cos(math.pi * 20 / 90)) / 2) != rates["linear"][30]


def test_clipping_bounds_what_a_step_does() -> None:
    """AdamW divides by the gradient's size, up to its epsilon: far below it, clipped gradients move nothing."""
    start = tiny.tiny_encoder()
    moved = [
        sum((value - start.state_dict()[name]).abs().sum() for name, value in fit(clip=clip)[0].state_dict().items())
        for clip in (1e-9, 1.0)
    ]
    assert moved[0] < 0.2 * moved[1]


def test_decay_is_of_matrices_alone_and_the_utility_map_has_its_own_rate() -> None:
    encoder, utility_map = tiny.tiny_encoder(), UtilityMap()
    groups = training._optimiser(encoder, utility_map, 0.1, 0.01).param_groups
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {id(p) for p in encoder.parameters() if p.ndim > 1}
    rates = {id(p): group["peak"] for group in groups for p in group["params"]}
    wanted = {id(p): 0.1 for p in encoder.parameters()} | {id(p): UTILITY_MAP_RATE for p in utility_map.parameters()}
    assert rates == wanted


@pytest.mark.parametrize("warmup", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_schedule_of_few_steps_stays_between_zero_and_one(steps: int, warmup: float) -> None:
    assert all(0 < schedule(step, steps, warmup, "cosine") <= 1 for step in range(steps))
    assert max(schedule(step, steps, warmup, "cosine") for step in range(steps)) == 1
