"""Losses against their formulas, one passage at a time, and against properties that every loss must have."""

import inspect
import math
from collections.abc import Callable
from dataclasses import replace
from typing import get_type_hints

import pytest
import torch
from loss_batches import NO_PASSAGE, PADDING, QUERIES, SETTINGS, make_batch, permute
from torch import Tensor

from bitter_retrieval.training import losses
from bitter_retrieval.training.losses import (
    FUNCTIONS,
    LabelledBatch,
    LossSettings,
    LossValue,
    UtilityMap,
)
from bitter_retrieval.training.settings import LOSSES


def utility_map() -> UtilityMap:
    module = UtilityMap().double()
    with torch.no_grad():
        module.log_scale.fill_(0.5)
        module.shift.fill_(-0.2)
    return module


def value_of(name: str, batch: LabelledBatch, settings: LossSettings = SETTINGS) -> LossValue:
    return FUNCTIONS[name](batch, settings, utility_map())


def gradient(name: str, batch: LabelledBatch, settings: LossSettings = SETTINGS) -> tuple[LossValue, Tensor]:
    similarity = batch.similarity.clone().requires_grad_()
    value = value_of(name, replace(batch, similarity=similarity), settings)
    return value, torch.autograd.grad(value.mean, similarity)[0]


# -- the formulas, slowly: s, L, u by passage; C and N lists of passages; None for a query that does not count ---------

Slow = Callable[..., float | None]


def softmax(logits: dict[int, float]) -> dict[int, float]:
    total = sum(math.exp(x) for x in logits.values())
    return {i: math.exp(x) / total for i, x in logits.items()}


def slow_infonce(s, L, u, C, N, P, settings):
    if not P or set(P) == set(N):
        return None
    e = {i: math.exp(s[i] / settings.student) for i in N}
    others = sum(e[j] for j in N if j not in P)
    if settings.positives == "marginal":
        return -math.log(sum(e[i] for i in P) / sum(e.values()))
    return -sum(math.log(e[i] / (e[i] + others)) for i in P) / len(P)


def slow_infonce_soft(s, L, u, C, N, P, settings):
    return slow_infonce(s, L, u, C, N, [i for i in C if L[i] <= min(L[j] for j in C) + 1e-6], settings)


def slow_kl(s, L, u, C, N, P, settings):
    taught = N if settings.in_batch == "no_passage" else C
    seen = C if settings.in_batch == "none" else N
    if not C or len(seen) < 2:
        return None
    p = softmax({i: -(L[i] if i in C else NO_PASSAGE) / settings.teacher for i in taught})
    q = softmax({i: s[i] / settings.student for i in seen})
    return sum(p[i] * math.log(p[i] / q[i]) for i in taught)


def slow_kl_binary(s, L, u, C, N, P, settings):
    seen = C if settings.in_batch == "none" else N
    if not P or len(seen) < 2:
        return None
    q = softmax({i: s[i] / settings.student for i in seen})
    return sum(math.log(1 / len(P) / q[i]) for i in P) / len(P)


def slow_mse(s, L, u, C, N, P, settings):
    if not C:
        return None
    a, b, others = math.exp(0.5), -0.2, [j for j in N if j not in C]
    mean_own = sum((a * s[i] + b - u[i]) ** 2 for i in C) / len(C)
    return mean_own + sum((a * s[j] + b) ** 2 for j in others) / max(1, len(others))


def slow_mse_minmax(s, L, u, C, N, P, settings):
    values = [-L[i] for i in C]
    if not C or max(values) - min(values) <= 1e-6:
        return None
    return sum((s[i] - (-L[i] - min(values)) / (max(values) - min(values))) ** 2 for i in C) / len(C)


def mean_over_pairs(L, C, others, keep, term, only_open=False):
    best = [b for b in C if L[b] <= min(L[i] for i in C) + 1e-6]
    values = [[term(b, j) for b in best for j in among if b != j and keep(b, j)] for among in (C, others)]
    if not any(values):
        return None
    kept = [[value for value in part if value > 0 or not only_open] for part in values]
    return sum(sum(part) / len(part) for part in kept if part)


def slow_margin(s, L, u, C, N, P, settings):
    others = [j for j in N if j not in C and settings.in_batch != "none"]
    return mean_over_pairs(
        L,
        C,
        others,
        lambda b, j: u[b] > 0 if j in others else L[j] - L[b] > 0.05,
        lambda b, j: max(0.0, settings.margin * (u[b] - u[j]) - (s[b] - s[j])),
        settings.pairs == "open",
    )


def slow_margin_mse(s, L, u, C, N, P, settings):
    others = [j for j in N if j not in C and settings.in_batch != "none"]
    error = lambda b, j: ((s[b] - s[j]) - settings.margin * (u[b] - u[j])) ** 2  # noqa: E731
    return mean_over_pairs(L, C, others, lambda b, j: True, error)


def slow_stable_kd(s, L, u, C, N, P, settings):
    if not C or len(N) < 2:
        return None
    w, total = softmax({i: -L[i] / settings.teacher for i in C}), 0.0
    for i in C:
        q = softmax({j: s[j] / settings.student for j in N if not (j in C and L[j] < L[i] - 1e-6)})
        total -= w[i] * math.log(q[i])
    return total


def slow_utility_infonce(s, L, u, C, N, P, settings):
    if sum(u[i] for i in C) == 0 or len(N) < 2 or all(u[j] == 1 for j in N):
        return None
    total, e = 0.0, {j: math.exp(s[j] / settings.student) for j in N}
    for i in C:
        below = e[i] + sum((1 - u[j]) * e[j] for j in N if j != i)
        total -= u[i] / sum(u[j] for j in C) * math.log(e[i] / below)
    return total


def slow_marginal_likelihood(s, L, u, C, N, P, settings):
    useful = [i for i in C if u[i] >= 0.5]
    if not useful or set(useful) == set(N):
        return None
    e = {j: math.exp(s[j] / settings.student) for j in N}
    return -math.log(sum(e[i] for i in useful) / sum(e.values()))


SLOW: dict[str, Slow] = {name: globals()[f"slow_{name}"] for name in (*FUNCTIONS, "kl_binary")}


def cases() -> list[tuple[str, dict[str, str], bool]]:
    """A loss, the settings with which it is tried, and whether the labels are binary."""
    tried = {
        "in_batch": ("no_passage", "zero", "none"),
        "positives": ("each", "marginal", "one"),
        "pairs": ("open", "all"),
    }
    found = []
    for name, loss in LOSSES.items():
        changes = [{dial: value} for dial in tried if dial in loss.dials for value in tried[dial]] or [{}]
        kinds = (False, True) if loss.labels == "any" else (loss.labels == "binary",)
        found += [(name, change, binary) for change in changes for binary in kinds]
    return found


def case_id(value: object) -> str:
    return "-".join(value.values()) if isinstance(value, dict) else str(value)


each_case = pytest.mark.parametrize(
    "name, change, binary, with_others", [(*case, others) for case in cases() for others in (True, False)], ids=case_id
)


def slowly(name: str, batch: LabelledBatch, settings: LossSettings) -> list[float | None]:
    formula = SLOW[f"{name}_binary"] if f"{name}_binary" in SLOW and batch.binary else SLOW[name]

    def places(mask: Tensor) -> list[int]:
        return mask.nonzero().flatten().tolist()

    return [
        formula(
            batch.similarity[q].tolist(),
            batch.nll[q].tolist(),
            batch.utility[q].tolist(),
            places(batch.own[q]),
            places(batch.own[q] | batch.others[q]),
            places(batch.relevant[q]),
            settings,
        )
        for q in range(len(batch.own))
    ]


@each_case
def test_equals_the_slow_formula_on_ragged_queries(name: str, change: dict, binary: bool, with_others: bool) -> None:
    settings = replace(SETTINGS, **change)
    batch = make_batch(with_others, binary=binary)
    value, expected = value_of(name, batch, settings), slowly(name, batch, settings)
    counted = [x for x in expected if x is not None]
    assert value.used.tolist() == [x is not None for x in expected]
    assert value.mean.item() == pytest.approx(sum(counted) / len(counted), abs=1e-9)
    for row, one in enumerate(expected):  # query by query too, as errors could cancel in the mean
        alone = permute(batch, torch.tensor([row]), torch.arange(batch.own.shape[1]))
        assert value_of(name, alone, settings).mean.item() == pytest.approx(one or 0.0, abs=1e-9)


@each_case
def test_gradients(name: str, change: dict, binary: bool, with_others: bool) -> None:
    settings, module, batch = replace(SETTINGS, **change), utility_map(), make_batch(with_others, binary=binary)
    inside = batch.own | batch.others

    def mean(similarity: Tensor, *_: Tensor) -> Tensor:
        padded = torch.full(inside.shape, math.nan, dtype=torch.float64).masked_scatter(inside, similarity)
        return FUNCTIONS[name](replace(batch, similarity=padded), settings, module).mean

    learned = tuple(module.parameters()) if name == "mse" else ()
    assert torch.autograd.gradcheck(mean, (batch.similarity[inside].requires_grad_(), *learned), fast_mode=True)


@each_case
def test_a_query_counts_exactly_if_its_loss_depends_on_a_similarity(
    name: str, change: dict, binary: bool, with_others: bool
) -> None:
    batch, settings = make_batch(with_others, binary=binary), replace(SETTINGS, **change)
    value, slope = gradient(name, batch, settings)
    _, opposite = gradient(name, replace(batch, similarity=-batch.similarity), settings)  # opens closed hinges
    assert value.used.tolist() == ((slope.abs() + opposite.abs()).sum(1) > 1e-12).tolist()
    assert (slope[~(batch.own | batch.others)] == 0).all()


@each_case
def test_order_of_queries_and_passages_and_padding_change_nothing(
    name: str, change: dict, binary: bool, with_others: bool
) -> None:
    batch, settings = make_batch(with_others, binary=binary), replace(SETTINGS, **change)
    rows, columns = (torch.randperm(n, generator=torch.Generator().manual_seed(1)) for n in batch.own.shape)
    padding = (~(batch.own | batch.others).any(0)).nonzero().flatten()
    value, slope = gradient(name, batch, settings)
    shuffled, shuffled_slope = gradient(name, permute(batch, rows, columns), settings)
    wider = permute(batch, torch.arange(len(rows)), torch.cat([padding, columns, padding]))
    padded = value_of(name, wider, settings)
    assert len(padding) >= PADDING
    assert shuffled.used.tolist() == value.used[rows].tolist() and padded.used.tolist() == value.used.tolist()
    torch.testing.assert_close(shuffled_slope, slope[rows][:, columns])
    for other in (shuffled, padded):
        torch.testing.assert_close(other.mean, value.mean)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("query", QUERIES)
def test_degenerate_batches_stay_finite(name: str, query: str) -> None:
    """One query alone, extreme similarities and temperatures, float32, NLLs up to 1,000."""
    batch = make_batch(False, [query])
    batch = replace(batch, similarity=batch.similarity.sign().float(), nll=(batch.nll * 400).float())
    value, slope = gradient(name, batch, replace(SETTINGS, student=1e-3, teacher=1e-3))
    assert value.mean.isfinite() and slope.isfinite().all()
    if not value.used.any():
        assert value.mean.item() == 0 and not slope.any()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nothing_to_use_gives_a_connected_zero(name: str) -> None:
    value, slope = gradient(name, make_batch(False, ["no candidate", "no candidate"]))
    assert value.mean.item() == 0 and not slope.any() and not value.used.any()


def test_kl_is_zero_once_the_student_equals_the_teacher() -> None:
    batch = make_batch(with_others=False)
    aligned = replace(batch, similarity=0.3 - batch.nll * SETTINGS.student / SETTINGS.teacher)
    value, slope = gradient("kl", aligned)
    assert value.used.any() and value.mean.item() == pytest.approx(0, abs=1e-12)
    assert slope.abs().max().item() < 1e-12
    assert value_of("kl", batch).mean.item() > 0.01


def test_kl_of_one_relevant_candidate_is_infonce() -> None:
    batch = make_batch(names=["plain", "single candidate", "no positive", "tie for best, then a tie"], binary=True)
    fast, expected = gradient("kl", batch), gradient("infonce", batch)
    assert fast[0].used.tolist() == expected[0].used.tolist()
    torch.testing.assert_close(fast[0].mean, expected[0].mean)
    torch.testing.assert_close(fast[1], expected[1])


def test_kl_of_several_relevant_candidates_has_the_gradient_of_supcon() -> None:
    batch = make_batch(names=["two positives"], binary=True)
    similarity = batch.similarity.clone().requires_grad_()
    everything = batch.own | batch.others
    log_q = (similarity / SETTINGS.student).masked_fill(~everything, -torch.inf).log_softmax(1)
    supcon = -log_q[batch.relevant].mean()
    torch.testing.assert_close(gradient("kl", batch)[1], torch.autograd.grad(supcon, similarity)[0])


def test_kl_counts_candidates_that_all_tie() -> None:
    batch = make_batch(names=["all tie", "plain"])
    assert value_of("kl", batch).used.tolist() == [True, True]
    assert value_of("margin", batch, replace(SETTINGS, in_batch="none")).used.tolist() == [False, True]


def test_one_positive_drawn_at_random_is_each_in_expectation() -> None:
    batch = make_batch(names=["two positives", "all tie", "plain"])
    settings, lots = replace(SETTINGS, positives="one"), torch.Generator().manual_seed(0)
    drawn = [
        value_of("infonce", replace(batch, lots=torch.rand(batch.own.shape, generator=lots)), settings).mean
        for _ in range(2000)
    ]
    values = torch.stack(drawn)
    assert len(values.unique()) == 6  # two times three times one
    each = value_of("infonce", batch).mean
    assert abs(values.mean() - each) < 4 * values.std() / 2000**0.5
    assert each != value_of("infonce", batch, replace(SETTINGS, positives="marginal")).mean


def test_a_drawn_positive_is_the_only_one_that_is_pulled_and_none_is_pushed() -> None:
    batch = make_batch(names=["two positives"])
    lots = torch.where(batch.relevant, torch.rand(batch.own.shape, generator=torch.Generator().manual_seed(1)), 2.0)
    slope = gradient("infonce", replace(batch, lots=lots), replace(SETTINGS, positives="one"))[1]
    assert (slope[batch.relevant] < 0).sum() == 1 and (slope[batch.relevant] > 0).sum() == 0
    assert (slope[batch.others | (batch.own & ~batch.relevant)] > 0).all()


@pytest.mark.parametrize("name", ["margin", "margin_mse"])
def test_in_batch_passages_have_no_utility_whatever_they_are_called(name: str) -> None:
    batch = make_batch()
    value, same = (value_of(name, batch, replace(SETTINGS, in_batch=label)) for label in ("no_passage", "zero"))
    assert value.mean.equal(same.mean) and value.used.equal(same.used)
    without = value_of(name, batch, replace(SETTINGS, in_batch="none"))
    assert without.mean.equal(value_of(name, make_batch(with_others=False)).mean) and without.mean != value.mean


def test_margin_is_zero_once_closed_and_still_counts() -> None:
    batch = make_batch()
    nll = torch.where(batch.own, batch.nll, NO_PASSAGE)  # as those of in-batch passages: u = 0
    closed = replace(batch, similarity=-nll)  # s_b - s_j = L_j - L_b >= m (u_b - u_j), as m < SCALE
    value, slope = gradient("margin", closed)
    assert value.used.any() and value.mean.item() == 0 and not slope.any()


@pytest.mark.parametrize("pairs", ["open", "all"])
def test_a_passage_that_is_far_away_dilutes_margin_only_over_all_pairs(pairs: str) -> None:
    own = torch.tensor([[True, True, False, False]])
    nll, utility = torch.tensor([[0.1, 2.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    similarity, no_passage = torch.tensor([[0.5, 0.4, 0.45, -0.9]]), torch.tensor([2.0])

    def value(others: list[bool]) -> float:
        batch = LabelledBatch(similarity, own, torch.tensor([others]), own & False, nll, no_passage, utility)
        return value_of("margin", batch, replace(SETTINGS, margin=0.2, pairs=pairs)).mean.item()

    near, both = value([False, False, True, False]), value([False, False, True, True])
    assert near == pytest.approx(0.1 + 0.15)
    assert both == pytest.approx(near if pairs == "open" else 0.1 + 0.075)


@pytest.mark.parametrize(("margin", "value"), [(0.2, 0.0), (1.9, 0.0), (3.0, 1.0)])
def test_margin_beyond_two_stays_open_for_the_best_similarities_that_there_are(margin: float, value: float) -> None:
    """profiles/seed_settings.yaml has 3.0: cosines of 1 and -1 do not close it, so the gradient never stops."""
    own, nll = torch.ones(1, 2, dtype=torch.bool), torch.tensor([[0.0, 2.0]], dtype=torch.float64)
    ends = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    utility = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    batch = LabelledBatch(ends, own, ~own, ~own, nll, torch.tensor([2.0]), utility)
    found, slope = gradient("margin", batch, replace(SETTINGS, margin=margin))
    assert found.mean.item() == pytest.approx(value) and bool(slope.any()) == (value > 0)


@pytest.mark.parametrize("with_others", [True, False])
def test_utility_infonce_with_one_hot_utility_is_infonce(with_others: bool) -> None:
    batch = make_batch(with_others, ["plain", "single candidate", "no positive", "tie for best, then a tie"])
    one_hot = replace(batch, utility=batch.relevant.double())
    fast, expected = gradient("utility_infonce", one_hot), gradient("infonce", batch)
    assert fast[0].used.tolist() == expected[0].used.tolist()
    torch.testing.assert_close(fast[0].mean, expected[0].mean)
    torch.testing.assert_close(fast[1], expected[1])


def test_no_passage_label_that_is_missing_is_refused_only_where_it_is_read() -> None:
    batch = make_batch()
    missing = torch.full_like(batch.no_passage_nll, math.nan)
    with pytest.raises(ValueError, match="no_passage_nll is nan at row 0"):
        value_of("kl", replace(batch, no_passage_nll=missing))
    assert value_of("kl", replace(batch, no_passage_nll=missing), replace(SETTINGS, in_batch="zero")).mean.isfinite()
    unread = torch.where(batch.own.any(1), batch.no_passage_nll, missing)  # of queries that do not count
    value, slope = gradient("kl", replace(batch, no_passage_nll=unread))
    assert unread.isnan().any() and value.mean.isfinite() and slope.isfinite().all()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda b: {"others": b.others | b.own}, "own and others are disjoint"),
        (lambda b: {"relevant": ~b.own}, "relevant lies inside own"),
        (lambda b: {"nll": b.nll * math.nan}, "nll is finite inside own"),
        (lambda b: {"utility": b.utility * 1.5}, r"utility is in \[0, 1\]"),
        (lambda b: {"utility": b.utility * math.nan}, r"utility is in \[0, 1\]"),
        (lambda b: {"utility": (~b.own).double()}, "utility is zero outside own"),
        (lambda b: {"nll": b.nll[:, 1:]}, r"nll is \[11, 30\], similarity \[11, 31\]"),
        (lambda b: {"similarity": b.similarity.bfloat16()}, "Multiply the embeddings in float32"),
    ],
)
def test_contradictory_batches_are_refused(change: Callable, message: str) -> None:
    batch = make_batch()
    with pytest.raises(ValueError, match=message):
        replace(batch, **change(batch))


@pytest.mark.parametrize(
    "change",
    [
        {"student": 0.0},
        {"teacher": -1.0},
        {"margin": math.nan},
        {"in_batch": "all"},
        {"positives": "all"},
        {"pairs": "no"},
    ],
)
def test_settings_without_a_meaning_are_refused(change: dict) -> None:
    with pytest.raises(ValueError):
        replace(SETTINGS, **change)


def test_every_function_that_gives_a_loss_has_a_row() -> None:
    public = {name for name, one in vars(losses).items() if not name.startswith("_") and inspect.isfunction(one)}
    given = {name for name in public if get_type_hints(getattr(losses, name)).get("return") is LossValue}
    assert given == set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_loss_looks_at_in_batch_passages_where_its_row_says(name: str) -> None:
    batch = make_batch()
    changed = replace(batch, similarity=torch.where(batch.others, -batch.similarity, batch.similarity))
    differs = not torch.equal(value_of(name, batch).mean, value_of(name, changed).mean)
    assert differs == LOSSES[name].in_batch
