"""Training losses of the encoder: pure functions of one batch. The table of what they learn from is in settings.py.

A batch of two queries and five passages, each passage encoded once (columns); the last column is padding:

    similarity      own              others           nll (nats a token)        utility
    .9 .1 .4 .2 .0  1 1 0 0 0        0 0 1 1 0        .2 1.9  -   -   -         1. .1 0. 0. 0.
    .3 .2 .8 .7 .0  0 0 1 1 0        1 1 0 0 0         -  -  .4  .4   -         .8 .8 0. 0. 0.

    value = FUNCTIONS["kl"](batch, LossSettings(student=0.05, teacher=0.2, margin=0.2), UtilityMap())
    value.mean.backward(); skipped = (~value.used).sum()

In the formulas, for one query: s_i the similarity of passage i, L_i its mean answer NLL, L0 the NLL without a passage,
u_i its utility, C the query's own candidates, N = C and the others of the batch, t the student's temperature.

Three rules hold for all of them:
- A query counts if its loss depends on a similarity at all. That follows from its labels and masks alone: a hinge that
  is closed counts, with value 0; a softmax over one passage, or candidates that all tie, gives nothing to learn.
- NLLs within TIE of each other are equal: "the best" may be several passages and the order of columns never matters.
- Masked entries may hold anything, NaN included, and get a gradient of exactly 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from bitter_retrieval.labels.soft import TIE
from bitter_retrieval.training.settings import LOSSES

GAP = 0.05  # nats a token by which a passage is clearly worse than the best one (margin)
USEFUL = 0.5  # utility of a passage that counts as a positive (marginal_likelihood)


@dataclass(frozen=True)
class LabelledBatch:
    """Q queries, P distinct passages, the model's similarities and one label source.

    Raises ValueError naming the row if the masks or labels contradict each other.
    """

    similarity: Tensor  # [Q, P] cosine similarity, float32 or float64
    own: Tensor  # [Q, P] bool: C, the query's own labelled candidates
    others: Tensor  # [Q, P] bool: in-batch passages, disjoint from own; False where masked or padded
    relevant: Tensor  # [Q, P] bool, True only inside own (binary sources; all False for soft ones)
    nll: Tensor  # [Q, P] mean answer NLL in nats a token, or its excess over L0; finite inside own, ignored elsewhere
    no_passage_nll: Tensor  # [Q] the same without a passage; read by kl with in_batch no_passage alone
    utility: Tensor  # [Q, P] in [0, 1], zero outside own
    binary: bool = False  # whether the labels are `relevant`, not `nll`; read by losses that take both kinds
    lots: Tensor | None = None  # [Q, P] random numbers: of several positives the highest is drawn; None: all count

    def __post_init__(self) -> None:
        _check_layout(self)
        for rule, broken in _broken_rules(self).items():
            if bool(broken.any()):
                row, column = broken.nonzero()[0].tolist()
                raise ValueError(f"LabelledBatch: {rule}, but not at row {row}, column {column}. Fix how it is built.")


def _check_layout(batch: LabelledBatch) -> None:
    shape = batch.similarity.shape
    tensors = {field.name: one for field in fields(batch) if isinstance(one := getattr(batch, field.name), Tensor)}
    for name, one in tensors.items():
        found, wanted = one.shape, shape[:1] if name == "no_passage_nll" else shape
        if found != wanted or len(shape) != 2 or 0 in shape:
            raise ValueError(f"LabelledBatch: {name} is {list(found)}, similarity {list(shape)}: want [Q, P].")
    if batch.similarity.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"similarity is {batch.similarity.dtype}: divided by a temperature its rounding would be a large error. "
            "Multiply the embeddings in float32."
        )


def _broken_rules(batch: LabelledBatch) -> dict[str, Tensor]:
    outside = ~batch.own
    return {
        "own and others are disjoint": batch.own & batch.others,
        "relevant lies inside own": batch.relevant & outside,
        "nll is finite inside own": batch.own & ~batch.nll.isfinite(),
        "utility is in [0, 1]": ~((batch.utility >= 0) & (batch.utility <= 1)),
        "utility is zero outside own": (batch.utility != 0) & outside,
    }


@dataclass(frozen=True)
class LossSettings:
    """The numbers of a run that losses read. Raises ValueError for one that has no meaning."""

    student: float  # temperature of the similarities
    teacher: float  # temperature of the answer NLLs, nats a token
    margin: float  # similarity wanted between utility 1 and utility 0: m of margin, k of margin_mse; 2 cannot be met
    in_batch: Literal["no_passage", "zero", "none"] = "no_passage"  # how losses label the batch's other passages
    positives: Literal["one", "marginal", "each"] = "each"  # what infonce makes of several positives
    pairs: Literal["open", "all"] = "open"  # pairs over which margin takes the mean

    def __post_init__(self) -> None:
        if not (self.student > 0 and self.teacher > 0):
            raise ValueError(f"temperatures are {self.student} and {self.teacher}: both must be above 0.")
        if not self.margin >= 0:
            raise ValueError(f"margin is {self.margin}: it must be 0 or more.")
        if self.in_batch not in ("no_passage", "zero", "none"):
            raise ValueError(f"in_batch is {self.in_batch!r}: write no_passage, zero or none.")
        if self.positives not in ("one", "marginal", "each"):
            raise ValueError(f"positives is {self.positives!r}: write one, marginal or each.")
        if self.pairs not in ("open", "all"):
            raise ValueError(f"pairs is {self.pairs!r}: write open or all.")


class UtilityMap(torch.nn.Module):
    """a s + b with a > 0, from cosine similarity to utility: learned with the encoder, dropped at export."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = torch.nn.Parameter(torch.zeros(()))  # a = 1
        self.shift = torch.nn.Parameter(torch.zeros(()))  # b = 0

    def forward(self, similarity: Tensor) -> Tensor:
        return torch.pow(math.e, self.log_scale) * similarity + self.shift  # exp's bits depend on the processor


@dataclass(frozen=True)
class LossValue:
    """A loss of one batch."""

    mean: Tensor  # scalar: average over the queries that count; 0, and still differentiable, if none does
    used: Tensor  # [Q] bool: the queries that count


# -- over all of N ---------------------------------------------------------------------------------------------------


def infonce(batch: LabelledBatch, settings: LossSettings, _: UtilityMap) -> LossValue:
    """-log( e^(s_b/t) / (e^(s_b/t) + sum over j in N that are not relevant of e^(s_j/t)) ), b relevant.

    Of several b, by settings.positives. each: the mean of their losses; none is a negative of another (SINCERE,
    arXiv 2309.14277; SupCon, arXiv 2004.11362, keeps the others in the denominator, as kl does). one: a b drawn by
    batch.lots, whose expectation is each; without lots it is each. marginal: the sum of their e^(s_b/t) in place of
    one, which the easiest to tell can satisfy alone. Counts: a positive, and a passage in N that is none.
    """
    return _contrast(batch, batch.relevant, settings)


def infonce_soft(batch: LabelledBatch, settings: LossSettings, _: UtilityMap) -> LossValue:
    """infonce with the candidates of lowest NLL as the positives, {i in C: L_i <= min L + TIE}.

    Counts: a candidate, and a passage in N that does not tie with the best.
    """
    return _contrast(batch, best(batch.own, batch.nll), settings)


def marginal_likelihood(batch: LabelledBatch, settings: LossSettings, _: UtilityMap) -> LossValue:
    """-log( sum over b of e^(s_b/t) / sum over N of e^(s_j/t) ), b the candidates that help by half of full utility.

    The summed marginal likelihood over passages that a model finds useful, as in Zhang et al. (EMNLP 2025,
    "Utility-Focused LLM Annotation for Retrieval and RAG"); infonce with positives marginal on people's labels.
    Counts: a candidate with u of at least USEFUL, and a passage in N with less.
    """
    useful = batch.own & (batch.utility >= USEFUL)
    return _contrast(batch, useful, replace(settings, positives="marginal"))


def _contrast(batch: LabelledBatch, positive: Tensor, settings: LossSettings) -> LossValue:
    negative = (batch.own | batch.others) & ~positive
    logits = batch.similarity / settings.student
    against = _masked_logsumexp(logits, negative)
    if settings.positives == "marginal":
        value = -logsigmoid(_masked_logsumexp(logits, positive) - against)
    else:
        taken = _drawn(positive, batch.lots) if settings.positives == "one" and batch.lots is not None else positive
        value = _masked_mean(-logsigmoid(_masked(logits, taken) - against[:, None]), taken)
    return _average(value, positive.any(1) & negative.any(1))


def _drawn(mask: Tensor, lots: Tensor) -> Tensor:
    """[Q, P] bool: the entry of each row's mask that has the highest lot."""
    of_row = lots.where(mask, -torch.inf)
    return mask & (of_row == of_row.amax(1, keepdim=True))


def kl(batch: LabelledBatch, settings: LossSettings, _: UtilityMap) -> LossValue:
    """sum p log(p / q), p = softmax(-L / t_teacher), q = softmax(s / t), by settings.in_batch:

    none: p and q over C. zero: p over C, q over N, so the others have target 0 and are in the denominator only.
    no_passage: both over N, with L0 as the others' label.
    Binary labels: p is uniform over the relevant candidates; no_passage is zero, as there is no L0. With a single
    relevant candidate and the others in the denominator this is infonce.
    Counts: a candidate (binary: a relevant one), and two passages under q. Raises ValueError if an L0 that is needed is
    not finite.
    """
    everything = batch.own | batch.others
    student = batch.own if settings.in_batch == "none" else everything
    if batch.binary:
        teacher, labels = batch.relevant, torch.zeros_like(batch.similarity)
    else:
        teacher = everything if settings.in_batch == "no_passage" else batch.own
        labels = torch.where(batch.own, batch.nll, batch.no_passage_nll[:, None])
    used = (teacher & batch.own).any(1) & (student.sum(1) > 1)
    _check_no_passage(batch, used & (teacher & batch.others).any(1))
    wanted = _masked(-labels / settings.teacher, teacher & used[:, None])
    log_q = _masked_log_softmax(batch.similarity / settings.student, student)
    return _average((wanted.softmax(1) * (wanted.log_softmax(1) - log_q)).sum(1), used)


def _check_no_passage(batch: LabelledBatch, needed: Tensor) -> None:
    broken = needed & ~batch.no_passage_nll.isfinite()
    if bool(broken.any()):
        row = int(broken.nonzero()[0])
        raise ValueError(
            f"kl: no_passage_nll is {batch.no_passage_nll[row].item()} at row {row}; in-batch passages have it as "
            "their label. Label the empty passage too, or set in_batch to zero or none."
        )


# -- passage by passage ----------------------------------------------------------------------------------------------


def mse(batch: LabelledBatch, settings: LossSettings, utility_map: UtilityMap) -> LossValue:
    """mean over C of (a s + b - u)^2, plus mean over the others of (a s + b - 0)^2 (0 if there are none).

    The two means are separate so that a larger batch does not drown C. Counts: a candidate.
    """
    similarity = torch.where(batch.own | batch.others, batch.similarity, 0)
    error = (utility_map(similarity) - batch.utility).square()
    return _average(_masked_mean(error, batch.own) + _masked_mean(error, batch.others), batch.own.any(1))


def mse_minmax(batch: LabelledBatch, settings: LossSettings, _: UtilityMap) -> LossValue:
    """The original's mean over C of (s - minmax(-L))^2, minmax to [0, 1] within the query's own candidates.

    Kept for comparison: it stretches noise to the whole range if all candidates are nearly equal.
    Counts: NLLs further apart than TIE (else minmax is 0 / 0).
    """
    low = batch.nll.where(batch.own, torch.inf).amin(1, keepdim=True)
    high = batch.nll.where(batch.own, -torch.inf).amax(1, keepdim=True)
    used = (high - low > TIE).squeeze(1)
    target = (high - batch.nll) / torch.where(used[:, None], high - low, 1)
    error = torch.where(batch.own, batch.similarity - target, 0).square()
    return _average(_masked_mean(error, batch.own), used)


# -- pairs of own candidates, so on [Q, K] and [Q, K, K] with K the most candidates that a query has ------------------


@dataclass(frozen=True)
class _Own:
    """Some own candidates of each query in its first columns, all [Q, K]; zeros where `mask` is False."""

    mask: Tensor
    similarity: Tensor
    nll: Tensor
    utility: Tensor


def _own(batch: LabelledBatch, chosen: Tensor | None = None) -> _Own:
    """chosen: [Q, P] bool, inside own; all own candidates without it."""
    chosen = batch.own if chosen is None else chosen
    most = max(1, int(chosen.sum(1).max()))
    columns = chosen.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
    mask = chosen.gather(1, columns)
    pick = [torch.where(mask, x.gather(1, columns), 0) for x in (batch.similarity, batch.nll, batch.utility)]
    return _Own(mask, *pick)


def margin(batch: LabelledBatch, settings: LossSettings, _: UtilityMap) -> LossValue:
    """mean over pairs with L_j - L_b > GAP of max(0, m (u_b - u_j) - (s_b - s_j)), b the best; several if they tie.

    Plus, unless settings.in_batch is none, the mean over pairs with the others of max(0, m u_b - (s_b - s_j)), where
    u_b > 0. The two means are separate, as in mse. settings.pairs says whether they are over all pairs or over those
    whose hinge is open (0 if none is), as in Hermans et al. (arXiv 1703.07737): then the many that are closed do not
    drown the few that are not. Counts: a pair of either kind, open or not.
    """
    own = _own(batch)
    pairs = best(own.mask, own.nll)[:, :, None] & own.mask[:, None, :] & (_differences(own.nll) < -GAP)
    hinge = torch.relu(settings.margin * _differences(own.utility) - _differences(own.similarity))
    lead = _lead(batch, settings)
    others = torch.relu(lead.wanted - lead.found), lead.mask & (lead.wanted > 0)
    return _over_pairs((hinge, pairs), others, only_open=settings.pairs == "open")


def margin_mse(batch: LabelledBatch, settings: LossSettings, _: UtilityMap) -> LossValue:
    """mean over j in C, j != b, of ((s_b - s_j) - k (u_b - u_j))^2, b the best, k = settings.margin.

    Plus, unless settings.in_batch is none, the mean over the others of ((s_b - s_j) - k u_b)^2, apart as in mse. If
    several tie for the best, the means are over the pairs of each. Margin-MSE (arXiv 2010.02666) with every candidate
    as negative and scaled utilities for the teacher's scores. Counts: a pair of either kind.
    """
    own = _own(batch)
    pairs = best(own.mask, own.nll)[:, :, None] & own.mask[:, None, :] & ~_diagonal(own.mask)
    error = (_differences(own.similarity) - settings.margin * _differences(own.utility)).square()
    lead = _lead(batch, settings)
    return _over_pairs((error, pairs), ((lead.found - lead.wanted).square(), lead.mask))


@dataclass(frozen=True)
class _Lead:
    """How far a query's best candidates are ahead of the batch's other passages, [Q, B, P]; B the most that tie."""

    mask: Tensor  # pairs
    found: Tensor  # difference in similarity
    wanted: Tensor  # [Q, B, 1] settings.margin times the difference in utility, as the others have none


def _lead(batch: LabelledBatch, settings: LossSettings) -> _Lead:
    """No pairs where settings.in_batch is none."""
    first = _own(batch, best(batch.own, batch.nll))
    others = batch.others & (settings.in_batch != "none")
    found = first.similarity[:, :, None] - torch.where(others, batch.similarity, 0)[:, None, :]
    return _Lead(first.mask[:, :, None] & others[:, None, :], found, settings.margin * first.utility[:, :, None])


def _over_pairs(*parts: tuple[Tensor, Tensor], only_open: bool = False) -> LossValue:
    """Sum over the parts of a query's mean over its pairs, from values and masks [Q, n, m].

    only_open: the mean is over the pairs whose value is above 0.
    """
    means = [
        _masked_mean(values.flatten(1), (pairs & (values > 0) if only_open else pairs).flatten(1))
        for values, pairs in parts
    ]
    return _average(torch.stack(means).sum(0), torch.stack([pairs.flatten(1).any(1) for _, pairs in parts]).any(0))


def stable_kd(batch: LabelledBatch, settings: LossSettings, _: UtilityMap) -> LossValue:
    """-sum over C of w_i log( e^(s_i/t) / sum over N without those ranked above i of e^(s/t) ).

    w = softmax(-L / t_teacher) over C; j is ranked above i if L_j < L_i - TIE, and in-batch passages are below all of
    C. LLM-Embedder, arXiv 2310.07554. Counts: a candidate, and two passages in N.
    """
    own = _own(batch)
    logits = own.similarity / settings.student
    kept = own.mask[:, None, :] & ~(_differences(own.nll) > TIE)  # [Q, i, j]: j is not ranked above i
    log_own = _pairwise_logsumexp(logits[:, None, :], kept)
    log_total = torch.logaddexp(log_own, _others_logsumexp(batch, settings.student))
    weights = _masked(-own.nll / settings.teacher, own.mask).softmax(1)
    used = batch.own.any(1) & ((batch.own | batch.others).sum(1) > 1)
    return _average((weights * (log_total - logits)).sum(1), used)


def utility_infonce(batch: LabelledBatch, settings: LossSettings, _: UtilityMap) -> LossValue:
    """-sum over C of w_i log( e^(s_i/t) / (e^(s_i/t) + sum over j != i in N of (1 - u_j) e^(s_j/t)) ), w = u / sum u.

    A passage is a negative to the extent that it does not help; the others have u = 0. Ours, after the idea of UAE
    (arXiv 2604.22722), whose exact equation was unavailable: not a replication. One-hot u gives infonce.
    Counts: a positive utility, two passages in N and one of them with u < 1.
    """
    own = _own(batch)
    logits = own.similarity / settings.student
    itself, negative = _diagonal(own.mask), own.utility < 1
    discounted = logits + torch.log1p(-own.utility)  # -inf at u = 1, which is no negative
    in_total = own.mask[:, None, :] & (itself | negative[:, None, :])  # [Q, i, j]
    log_own = _pairwise_logsumexp(torch.where(itself, logits[:, None, :], discounted[:, None, :]), in_total)
    log_total = torch.logaddexp(log_own, _others_logsumexp(batch, settings.student))
    value, total = (own.utility * (log_total - logits)).sum(1), own.utility.sum(1)
    everything = batch.own | batch.others
    used = (total > 0) & (everything.sum(1) > 1) & (everything & (batch.utility < 1)).any(1)
    return _average(value / torch.where(total > 0, total, 1), used)


# -- masked arithmetic -----------------------------------------------------------------------------------------------


def _average(values: Tensor, used: Tensor) -> LossValue:
    """Average of values [Q] over the queries that count. By `where`, as a huge value times 0 may be NaN."""
    return LossValue(torch.where(used, values, 0).sum() / used.sum().clamp(min=1), used)


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """[Q] mean of the last dimension over mask, both [Q, n]; 0 where nothing is kept."""
    return torch.where(mask, values, 0).sum(-1) / mask.sum(-1).clamp(min=1)


def _masked(logits: Tensor, mask: Tensor) -> Tensor:
    """Logits whose masked entries vanish under exp: the lowest finite number, as -inf would make gradients NaN."""
    return torch.where(mask, logits, torch.finfo(logits.dtype).min)


def _masked_logsumexp(logits: Tensor, mask: Tensor) -> Tensor:
    """Over the last dimension; near the lowest finite number where nothing is kept.

    By log_softmax, as the bits of torch.logsumexp depend on the processor (docs/processors.md).
    """
    kept = _masked(logits, mask)
    return kept.amax(-1) - kept.log_softmax(-1).amax(-1)


def _masked_log_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """Over the last dimension; masked entries come out near the lowest finite number, so their exp is 0."""
    return _masked(logits, mask).log_softmax(-1)


def _pairwise_logsumexp(logits: Tensor, mask: Tensor) -> Tensor:
    """[Q, K]: for each i the logsumexp of logits[q, i, j] (or [q, 1, j]) over the j in mask [Q, K, K]."""
    return _masked_logsumexp(logits.expand(mask.shape), mask)


def _others_logsumexp(batch: LabelledBatch, temperature: float) -> Tensor:
    """[Q, 1] logsumexp of the in-batch passages' logits."""
    return _masked_logsumexp(batch.similarity / temperature, batch.others)[:, None]


def best(mask: Tensor, nll: Tensor) -> Tensor:
    """[Q, n] bool: the candidates in mask whose NLL is the query's lowest, ties included."""
    lowest = nll.where(mask, torch.inf).amin(1, keepdim=True)
    return mask & (nll <= lowest + TIE)


def _differences(values: Tensor) -> Tensor:
    """[Q, K, K]: values[q, i] - values[q, j]."""
    return values[:, :, None] - values[:, None, :]


def _diagonal(mask: Tensor) -> Tensor:
    """[1, K, K] bool: i == j."""
    return torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)[None]


FUNCTIONS: dict[str, Callable[[LabelledBatch, LossSettings, UtilityMap], LossValue]] = {
    name: globals()[name]
    for name in LOSSES  # a row without its function fails here
}
