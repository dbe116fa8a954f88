"""params.yaml as a typed tree, checked as a whole before anything runs.

    params = load_params()
    params.runs["kl"].temperature.student  # 0.05
    params.readers["reader_a"].fit.steps   # 800

The dataclass of a section is in settings.py of the room it describes; docs/params.md has the meaning, unit and
consequence of every field. Types carry the limits of one value; the functions below check relations between several.
This module decides no result, so no stage of dvc.yaml lists it. Errors name the first wrong value with file, dotted
path and remedy:

    params.yaml: train.schedule: 'cosin' is none of cosine, linear, constant. Did you mean 'cosine'?
"""

import dataclasses
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitter_retrieval import lineage
from bitter_retrieval.data.settings import AnyData, GeneratedData
from bitter_retrieval.encoders.settings import EncoderParams
from bitter_retrieval.evaluation.settings import Control, Evaluate
from bitter_retrieval.judging.settings import AnyJudge, LlmParams
from bitter_retrieval.labels.settings import (
    TRAIN,
    AlteredLabels,
    AnyDerivedLabels,
    AnyLabels,
    AnyMixedLabels,
    BothLabels,
    CorruptedLabels,
    Label,
    MinedNegatives,
    OnPolicyLabels,
    PublishedLabels,
    ReaderLabels,
    RerankerLabels,
    UtilityLabels,
)
from bitter_retrieval.models.checkpoints import is_gguf
from bitter_retrieval.models.settings import FIT, is_hub_id
from bitter_retrieval.parameter_types import Name
from bitter_retrieval.readers.settings import ReaderParams
from bitter_retrieval.statistics.settings import Compare
from bitter_retrieval.tracking import Tracking
from bitter_retrieval.training.settings import LOSSES, Run, Train
from bitter_retrieval.typed_yaml import ParamsError, build, nearest, one_of, read_yaml


@dataclass(frozen=True)
class Params:
    data: AnyData
    beyond: AnyData | None  # another domain, whose test questions are answered too
    readers: dict[Name, ReaderParams]
    encoders: dict[Name, EncoderParams]
    labels: dict[Name, AnyLabels]
    label: Label
    derived_labels: dict[Name, AnyDerivedLabels]
    mixed_labels: dict[Name, AnyMixedLabels]
    runs: dict[Name, Run]
    train: Train
    evaluate: Evaluate
    control: Control
    judge: AnyJudge
    compare: Compare
    tracking: Tracking

    @property
    def sources(self) -> dict[str, lineage.AnySource]:
        """Label sources by name: all that a run's labels may be."""
        return {**self.labels, **self.derived_labels, **self.mixed_labels}

    @property
    def quantised(self) -> dict[str, str]:
        """GGUF file by reader, of those that have one: its name says the quantisation, as reader.json does."""
        return {name: Path(reader.model).name for name, reader in self.readers.items() if is_gguf(reader.model)}

    @property
    def untrained(self) -> dict[str, str]:
        """Encoders by the name of the control that uses them before training."""
        return {"untrained" if name == self.control.encoder else f"untrained_{name}": name for name in self.encoders}

    @property
    def controls(self) -> list[str]:
        """Names of the controls: readers answer without a trained retriever."""
        return ["no_passage", "random", "annotated", "oracle", "bm25", *self.untrained]


def load_params(path: Path | str = "params.yaml") -> Params:
    """Read and check params. Raises ParamsError on the first wrong value; warns of dials without effect."""
    return parse_params(read_yaml(path), path)


def parse_params(tree: dict[str, Any], source: Path | str) -> Params:
    """Params from the nested dict of a YAML file, which errors call `source`."""
    try:
        _refuse_moved(tree)
        params = build(Params, _with_weights(tree), "")
        for wrong, problem in _relations(params):  # evaluated lazily: a check may rely on those before it
            if wrong:
                raise ParamsError(problem)
    except ParamsError as error:
        raise ParamsError(f"{source}: {error}") from None
    for name, run in params.runs.items():
        if run.margin > 1 and not run.infeasible_margin:
            said = f"{source}: runs.{name}.margin: {run.margin} is above 1: the hinge rarely closes."
            warnings.warn(said, stacklevel=3)
        if run.gain and run.references != "best":
            warnings.warn(
                f"{source}: runs.{name}.gain: changes nothing with references {run.references}: the loss without a "
                "passage is the same for all passages of a query, and losses only compare these.",
                stacklevel=3,
            )
    return params


MOVED = ("label.mlflow", "train.mlflow", "train.checkpoint_seconds")


def _refuse_moved(tree: dict[str, Any]) -> None:
    for at in MOVED:
        section, _, key = at.partition(".")
        if isinstance(tree.get(section), dict) and key in tree[section]:
            raise ParamsError(f"{at}: is now tracking.{key}, as it decides no result; move it there.")


def _with_weights(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree with losses that are {weight, labels} as weights, and their labels in the run's loss_labels."""
    runs = tree.get("runs")
    if not isinstance(runs, dict):
        return tree
    return tree | {"runs": {name: _run_with_weights(name, run) for name, run in runs.items()}}


def _run_with_weights(name: str, run: Any) -> Any:
    losses = run.get("losses") if isinstance(run, dict) else None
    if not isinstance(losses, dict):
        return run
    long = {loss: of for loss, of in losses.items() if isinstance(of, dict)}
    for loss, of in long.items():
        if of.keys() != {"weight", "labels"}:
            raise ParamsError(f"runs.{name}.losses.{loss}: write a weight, or {{weight, labels}}, got {of}.")
    if not long:
        return run
    weights = losses | {loss: of["weight"] for loss, of in long.items()}
    return run | {"losses": weights, "loss_labels": {loss: of["labels"] for loss, of in long.items()}}


# -- relations between values: (whether it is violated, the error with its dotted path) -----------------------------

Relations = Iterator[tuple[bool, str]]


def _relations(params: Params) -> Relations:
    yield from _data_relations("data", params.data)
    if params.beyond:
        yield from _data_relations("beyond", params.beyond)
        yield from _beyond_relations(params.beyond, params.data)
    for name, reader in params.readers.items():
        yield from _model_relations(f"readers.{name}", reader)
        worked = reader.examples is not None and reader.model == FIT
        yield worked, f"readers.{name}.examples: a reader that is fitted here learns its prompt; remove them."
    for name, encoder in params.encoders.items():
        yield from _model_relations(f"encoders.{name}", encoder)
    for name, labels in params.labels.items():
        yield from _label_relations(f"labels.{name}", labels, params.data)
    for at, name, legal in _references(params):
        one_of(name, legal, at)
    for name, derived in params.derived_labels.items():
        yield from _derived_relations(name, derived, params)
    for name in params.mixed_labels:
        twice = name in params.labels or name in params.derived_labels
        yield twice, f"mixed_labels.{name}: another label source has this name; rename one of them."
    seeds, draws = len(params.train.seeds), params.control.random_draws
    yield draws not in (1, seeds), f"control.random_draws: must be 1 or as many as train.seeds ({seeds}), got {draws}."
    taken = [*params.controls, "all"]
    for name, run in params.runs.items():
        yield name in taken, f"runs.{name}: results use this name otherwise ({', '.join(taken)}); rename the run."
        yield from _run_relations(f"runs.{name}", run, params)
    shown, top_k = params.evaluate.shown, params.evaluate.top_k
    yield max(shown) > top_k, f"evaluate.shown: must be at most top_k ({top_k}), got {max(shown)}."
    yield from _judge_relations(params.judge, params.readers)
    primary, baseline = params.compare.primary, params.compare.baseline
    yield primary == baseline, f"compare.primary: {primary!r} is compare.baseline too; name the run to compare with it."
    for name in params.compare.contrasts or {}:
        yield name in params.runs, f"compare.contrasts.{name}: a run has this name; rename the contrast."


def _references(params: Params) -> Iterator[tuple[str, str, Iterable[str]]]:
    """Dotted path, the name given there, and the legal names."""
    own_losses = (ReaderLabels, PublishedLabels)
    losses = [name for name, labels in params.labels.items() if isinstance(labels, own_losses)]
    binary = [name for name, labels in params.labels.items() if not labels.soft]
    readers = [f"models/readers/{name}" for name in params.readers]
    for name, labels in params.labels.items():
        at = f"labels.{name}"
        if isinstance(labels, ReaderLabels | UtilityLabels):
            yield f"{at}.needs", labels.needs, readers
        elif isinstance(labels, AlteredLabels):
            yield f"{at}.needs", labels.needs, [f"data/labels/{name}" for name in losses]
        elif isinstance(labels, CorruptedLabels):
            whole = [one for one in binary if not isinstance(params.labels[one], CorruptedLabels)]
            yield f"{at}.needs", labels.needs, [f"data/labels/{one}" for one in whole]
        elif not isinstance(labels, PublishedLabels) or labels.hub:
            yield f"{at}.needs", labels.needs, [TRAIN]
        if isinstance(labels, PublishedLabels) and labels.reader:
            yield f"{at}.reader", labels.reader, params.readers
    encoders = [*(f"models/encoders/{name}" for name in params.encoders), *(f"models/runs/{n}" for n in params.runs)]
    labelled = {name: one for name, one in (params.labels | params.derived_labels).items() if one.kind != "mined"}
    soft = [f"data/labels/{name}" for name, one in labelled.items() if one.soft]
    needed = {
        MinedNegatives: [f"data/labels/{name}" for name in labelled],
        RerankerLabels: soft,
        OnPolicyLabels: readers,
    }
    for name, derived in params.derived_labels.items():
        yield f"derived_labels.{name}.needs", derived.needs, needed[type(derived)]
        yield f"derived_labels.{name}.encoder", derived.encoder, encoders
    for name, mixed in params.mixed_labels.items():
        yield f"mixed_labels.{name}.needs", mixed.needs, soft
        yield f"mixed_labels.{name}.human", mixed.human, [f"data/labels/{one}" for one in binary]
    for name, run in params.runs.items():
        yield f"runs.{name}.labels", run.labels, params.sources
        yield f"runs.{name}.encoder", run.encoder, params.encoders
        for loss in run.losses:
            yield f"runs.{name}.losses", loss, LOSSES
        for loss, source in (run.loss_labels or {}).items():
            yield f"runs.{name}.losses.{loss}.labels", source, _parts(run.labels, params)
    yield "compare.baseline", params.compare.baseline, params.runs
    yield "compare.primary", params.compare.primary, params.runs
    for name, pair in (params.compare.contrasts or {}).items():
        for place, of_pair in enumerate(pair):
            yield f"compare.contrasts.{name}[{place}]", of_pair, params.runs
    yield "compare.label_source", params.compare.label_source, losses
    yield "compare.human_source", params.compare.human_source, binary
    yield "compare.reader", params.compare.reader, params.readers
    yield "control.encoder", params.control.encoder, params.encoders
    yield "control.human_source", params.control.human_source, binary


def _parts(source: str, params: Params) -> list[str]:
    """The sources that a loss of a run may name: the run's own, or the two of which it is made."""
    labels = params.sources.get(source)
    if not isinstance(labels, BothLabels):
        return [source]
    return [path.rpartition("/")[2] for path in (labels.needs, labels.human)]


def _data_relations(at: str, data: AnyData) -> Relations:
    total = sum(dataclasses.astuple(data.articles)) if data.articles else 0.0
    fixed = isinstance(data, GeneratedData) and data.candidates != 10
    yield fixed, f"{at}.candidates: a generated world makes 10, not {data.candidates}."
    yield total > 1 + 1e-9, f"{at}.articles: the shares sum to {total:g}; lower them to 1 or less."


def _beyond_relations(beyond: AnyData, data: AnyData) -> Relations:
    yield beyond == data, "beyond: equals data; name another source, or null."
    here = isinstance(beyond, GeneratedData) or beyond.hub or Path(beyond.path).is_relative_to(data.path)
    yield (
        not here,
        f"beyond.path: must be data.path ({data.path}) or inside it, as DVC follows only that, got {beyond.path!r}.",
    )


def _model_relations(at: str, model: ReaderParams | EncoderParams) -> Relations:
    name, fit, fitted = model.model, model.fit, model.model == FIT
    gguf = is_gguf(name)
    yield gguf and isinstance(model, EncoderParams), f"{at}.model: {name!r}: a GGUF file can be a reader alone."
    short = gguf and is_hub_id(name) and name.count("/") < 2
    yield short, f"{at}.model: {name!r} is no file here; a hub's is named owner/repo/file.gguf."
    yield fitted and fit is None, f"{at}.fit: missing; model fit needs it."
    yield not fitted and fit is not None, f"{at}.fit: only used when model is fit, not {name!r}; remove one of them."
    if fit is not None:
        wrong = fit.width % fit.heads != 0
        yield wrong, f"{at}.fit.width: must be a multiple of heads ({fit.heads}), got {fit.width}."
    yield from _revision_relations(f"{at}.revision", name, model.revision, is_hub_id(name), [FIT])


def _revision_relations(at: str, name: str, revision: str | None, hub: bool, others: Iterable[str]) -> Relations:
    """others: legal values besides a hub id."""
    yield not hub and revision is not None, f"{at}: must be null as {name!r} is no hub id, got {revision!r}."
    repo = "/".join(name.split("/")[:2])
    command = f"git ls-remote https://huggingface.co/{repo} {revision or 'main'}"
    yield (
        hub and not re.fullmatch("[0-9a-f]{40}", revision or ""),
        (
            f"{at}: must be a 40-hex commit as model {name!r} is a hub id, got {revision!r}. A branch can move "
            f"unnoticed: `{command}` prints the commit to paste; a folder is written ./{name}.{nearest(name, others)}"
        ),
    )


def _judge_relations(judge: AnyJudge, readers: Iterable[str]) -> Relations:
    if isinstance(judge, LlmParams):
        hub = judge.model not in readers and is_hub_id(judge.model)
        yield from _revision_relations("judge.scoring.revision", judge.model, judge.scoring.revision, hub, readers)


def _label_relations(at: str, labels: AnyLabels, data: AnyData) -> Relations:
    impossible = labels.kind in data.cannot_give
    yield impossible, f"{at}.kind: data.source {data.source} cannot give {labels.kind}; remove it."
    yield (
        isinstance(labels, PublishedLabels) and not labels.hub and labels.needs == TRAIN,
        f"{at}.needs: name the file or folder of the soft labels, or give {at}.hub.",
    )


def _derived_relations(name: str, labels: AnyDerivedLabels, params: Params) -> Relations:
    at = f"derived_labels.{name}"
    yield name in params.labels, f"{at}: labels has this name too; rename one of them."
    if isinstance(labels, MinedNegatives):
        shallow = labels.depth < labels.per_query
        yield shallow, f"{at}.depth: must be at least per_query ({labels.per_query}), got {labels.depth}."
    circle = lineage.circle(f"data/labels/{name}", params)
    yield circle != (), f"{at}: is made from itself ({' < '.join(circle)}); let it need something made earlier."


def _run_relations(at: str, run: Run, params: Params) -> Relations:
    kind, soft = params.sources[run.labels].kind, lineage.is_soft(run.labels, params)
    source = f"source {run.labels!r} (kind {kind})"
    yield from _loss_relations(at, run, source, soft, params)
    for field in ("gain", "empty_candidate"):
        wrong = getattr(run, field) and not soft
        yield wrong, f"{at}.{field}: {source} is binary and has no label for no passage; remove it."
    yield (
        run.nll == "sum" and isinstance(lineage.origin(run.labels, params), PublishedLabels),
        f"{at}.nll: {source} has only means; use mean.",
    )
    weighed = [name for name, weight in run.losses.items() if weight]
    ignoring = [name for name in weighed if run.in_batch == "none" and "in_batch" in LOSSES[name].dials]
    looking = [name for name in weighed if LOSSES[name].in_batch and name not in ignoring]
    yield (
        kind == "mined" and not looking,
        (
            f"{at}.labels: {source} adds negatives, and none of {', '.join(run.losses)} uses passages besides a query's"
            " own candidates; use the source that it needs."
        ),
    )
    for field in ("in_batch", "positives", "pairs"):
        value, readers = getattr(run, field), [name for name, loss in LOSSES.items() if field in loss.dials]
        unread = value != getattr(Run, field) and not {*readers} & {*weighed}
        yield (
            unread,
            f"{at}.{field}: {value!r} is for {', '.join(readers)}, none of them in {', '.join(weighed)}; remove it.",
        )
    seeds, paired = len(run.seeds or params.train.seeds), len(params.train.seeds)
    yield seeds != paired, f"{at}.seeds: must be as many as train.seeds ({paired}), as seeds are paired, got {seeds}."
    beyond = run.margin >= 2
    yield (
        beyond and not run.infeasible_margin,
        (
            f"{at}.margin: must be below 2, as cosines are at most 2 apart, got {run.margin}; "
            "`infeasible_margin: true` allows it."
        ),
    )
    yield run.infeasible_margin and not beyond, f"{at}.infeasible_margin: margin {run.margin} is below 2; remove it."


def _loss_relations(at: str, run: Run, source: str, soft: bool, params: Params) -> Relations:
    yield not any(run.losses.values()), f"{at}.losses: no loss has a weight above 0, got {run.losses}."
    labels = params.sources[run.labels]
    if isinstance(labels, BothLabels):
        yield from _read_relations(at, run, labels)
        return
    for loss in run.losses:
        needed, of = LOSSES[loss].labels, f"{at}.losses.{loss}"
        yield needed == "binary" and soft, f"{of}: needs binary labels, {source} is soft. Use infonce_soft."
        lacking = needed == "soft" and not soft
        yield lacking, f"{of}: needs soft labels (a reader's answer losses), {source} is binary."


def _read_relations(at: str, run: Run, labels: BothLabels) -> Relations:
    """A loss on binary labels reads people's, any other the soft ones: what the run says of a loss must agree."""
    for loss, named in (run.loss_labels or {}).items():
        side = labels.human if LOSSES[loss].labels == "binary" else labels.needs
        own = side.rpartition("/")[2]
        yield named != own, f"{at}.losses.{loss}.labels: {loss} learns from {own} here, not from {named!r}."
    weighed = {LOSSES[loss].labels == "binary" for loss, weight in run.losses.items() if weight}
    used, unused = (labels.needs, labels.human) if weighed == {False} else (labels.human, labels.needs)
    said = f"no loss learns from {unused}, which {run.labels!r} holds too"
    yield len(weighed) < 2, f"{at}.labels: {said}; name {used.rpartition('/')[2]!r}, or add such a loss."
