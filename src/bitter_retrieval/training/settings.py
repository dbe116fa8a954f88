"""Sections `runs` and `train`, and the table of losses: what a run may be. Free of torch, as every stage imports it.

A loss is a row of LOSSES and the function of that name in losses.py.
"""

from dataclasses import dataclass
from typing import Literal

from bitter_retrieval.labels.soft import REFERENCES, References
from bitter_retrieval.parameter_types import Attention, Count, NotNegative, Positive, Seeds, Share


@dataclass(frozen=True)
class Loss:
    """The labels, dials and passages that a loss uses."""

    labels: Literal["binary", "soft", "any"]  # kind of label source
    dials: tuple[str, ...]  # fields of a run, dotted, that it reads; tuning varies them
    in_batch: bool = True  # whether it uses the batch's other passages


LOSSES: dict[str, Loss] = {
    "infonce": Loss("binary", ("temperature.student", "positives")),
    "infonce_soft": Loss("soft", ("temperature.student", "positives")),
    "kl": Loss("any", ("temperature.student", "temperature.teacher", "in_batch")),
    "mse": Loss("soft", ()),
    "mse_minmax": Loss("soft", (), in_batch=False),
    "margin": Loss("soft", ("margin", "in_batch", "pairs")),
    "margin_mse": Loss("soft", ("margin", "in_batch")),
    "stable_kd": Loss("soft", ("temperature.student", "temperature.teacher")),
    "utility_infonce": Loss("soft", ("temperature.student",)),
    "marginal_likelihood": Loss("soft", ("temperature.student",)),
}


@dataclass(frozen=True)
class Temperature:
    """Divisors: student of similarities, teacher of answer losses in nats a token."""

    student: Positive
    teacher: Positive


@dataclass(frozen=True)
class Run:
    """Label source x encoder x losses, trained once a seed."""

    labels: str
    encoder: str
    losses: dict[str, NotNegative]  # weight by name in LOSSES; params may say {weight, labels}
    temperature: Temperature
    margin: Positive  # similarity wanted between utility 1 and utility 0
    learning_rate: Positive | None = None  # None: train.learning_rate
    in_batch: Literal["no_passage", "zero", "none"] = "no_passage"  # label of the batch's other passages
    positives: Literal["one", "marginal", "each"] = "each"  # what counts of several positives
    pairs: Literal["open", "all"] = "open"  # over which margin takes the mean
    nll: Literal["mean", "sum"] = "mean"  # over the answer's tokens
    references: References = REFERENCES  # the reference answer whose loss counts; tables always use the best
    gain: bool = False  # the loss without a passage is subtracted
    empty_candidate: bool = False  # the empty passage is one more candidate
    infeasible_margin: bool = False  # margin is 2 or more on purpose
    trains: Literal["both", "query"] = "both"  # query: passages keep the vectors of the starting encoder
    seeds: Seeds | None = None  # None: train.seeds
    loss_labels: dict[str, str] | None = None  # the source that a loss names, of labels of kind both


@dataclass(frozen=True)
class Train:
    """The budget that all runs share."""

    seeds: Seeds
    epochs: Count
    queries_per_batch: Count
    learning_rate: Positive
    warmup: Share  # of the steps
    schedule: Literal["cosine", "linear", "constant"]
    weight_decay: NotNegative
    clip: Positive  # bound on the norm of the gradient
    micro_batch_tokens: Count  # tokens encoded at once, which bound memory
    select: Literal["loss", "last"]  # which epoch's weights are kept
    precision: Literal["float32", "bfloat16"] = "float32"  # of encoding
    recompute: bool = False  # activations are computed again instead of kept
    attention: Attention = "auto"
