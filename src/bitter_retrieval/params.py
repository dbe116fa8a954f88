"""params.yaml as a typed tree, checked as a whole before anything runs.

    params = load_params()
    params.runs["kl"].temperature.student  # 0.05
    params.readers["reader_a"].fit.steps   # 800

Meaning, unit and consequence of every field stand in profiles/default.yaml. Types carry the limits of one value; the
functions at the end check what relates several. The first wrong thing is named with file, dotted path and remedy:

    params.yaml: train.schedule: 'cosin' is none of cosine, linear, constant. Did you mean 'cosine'?
"""

import dataclasses
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from bitter_retrieval.typed_yaml import ParamsError, Rule, build, nearest, one_of, read_yaml


def is_prompt(text: str) -> bool:
    return text.count("{query}") == 1 == text.count("{passage}") and text == text.rstrip()


def is_judge_prompt(text: str) -> bool:
    return all(text.count(place) == 1 for place in ("{query}", "{references}", "{answer}")) and text == text.rstrip()


NAME = "made of a-z, 0-9, _ and - (it names files and params; a dot nests in DVC's params)"
PROMPT = "text with {query} and {passage} once each and no space at its end (one space precedes the answer)"
Name = Annotated[str, Rule(lambda text: re.fullmatch("[a-z0-9_-]+", text) is not None, NAME)]
Prompt = Annotated[str, Rule(is_prompt, PROMPT)]
JUDGE_PROMPT = "text with {query}, {references} and {answer} once each and no space at its end"
JUDGE_MODEL = "a model's name (gemini), or a reader's name, a path, pkg://package/folder or a hub id (llm)"
JudgePrompt = Annotated[str, Rule(is_judge_prompt, JUDGE_PROMPT)]
JudgeModel = Annotated[str, Rule(lambda text: text.strip() not in ("", "fit"), JUDGE_MODEL)]
Model = Annotated[str, Rule(lambda text: text.strip() != "", "fit, a path, pkg://package/folder or a hub id")]
Count = Annotated[int, Rule(lambda number: number >= 1, "at least 1")]
CountOrZero = Annotated[int, Rule(lambda number: number >= 0, "0 or more")]
Seed = Annotated[int, Rule(lambda number: 0 <= number < 2**31, "from 0 to 2147483647")]
Seeds = Annotated[list[Seed], Rule(lambda seeds: 0 < len(seeds) == len(set(seeds)), "distinct seeds, at least one")]
Text = Annotated[str, Rule(lambda text: text.strip() != "", "text that is not blank")]
DATASET = "a dataset's id on the hub, microsoft/ms_marco say"
DatasetId = Annotated[str, Rule(lambda text: re.fullmatch(r"[\w.-]+(/[\w.-]+)?", text) is not None, DATASET)]
COMMIT = "40 hex digits (a branch can move unnoticed); with null, the stage says which command prints them"
Commit = Annotated[str, Rule(lambda text: re.fullmatch("[0-9a-f]{40}", text) is not None, COMMIT)]
Stops = Annotated[list[Text], Rule(lambda texts: len(texts) > 0, "texts, at least one")]
Shown = Annotated[list[Count], Rule(lambda ks: 0 < len(ks) == len(set(ks)), "distinct numbers, at least one")]
Positive = Annotated[float, Rule(lambda number: number > 0, "above 0")]
NotNegative = Annotated[float, Rule(lambda number: number >= 0, "0 or more")]
Share = Annotated[float, Rule(lambda number: 0 <= number <= 1, "from 0 to 1")]
Attention = Literal["auto", "flash", "varlen", "sdpa"]
# The names of losses.LOSSES, which a test compares: importing that table would bring torch to every stage.
LossName = Literal[
    "infonce", "infonce_soft", "kl", "mse", "mse_minmax", "margin", "margin_mse", "stable_kd", "utility_infonce"
]
KNOWN_LOSSES: tuple[str, ...] = get_args(LossName)
BINARY_LOSSES = {"infonce"}  # the others need answer losses


@dataclass(frozen=True)
class World:
    reader_clusters: Count
    train_clusters: Count
    validation_clusters: Count
    test_clusters: Count
    distractor_clusters: CountOrZero
    hard_only: Share
    misleading_mentions: Share


@dataclass(frozen=True)
class Articles:
    reader: Share
    train: Share
    validation: Share
    test: Share


@dataclass(frozen=True)
class Hub:
    id: DatasetId
    revision: Commit | None
    config: Text | None = None  # None: the dataset has but one


@dataclass(frozen=True)
class Limits:
    reader: CountOrZero = 0
    train: Count | None = None  # None: all
    validation: Count | None = None
    test: Count | None = None


@dataclass(frozen=True)
class Data:
    source: Literal["synthetic", "squad", "msmarco", "jsonl"]
    path: str
    seed: Seed
    candidates: Count
    world: World | None = None  # required by synthetic
    articles: Articles | None = None  # required by squad, and by files that are not split
    hub: Hub | None = None  # read in the place of path
    num_titles: Count | None = None  # DATA_FIELDS says which source has which of these
    questions_per_title: Count | None = None
    limits: Limits | None = None


@dataclass(frozen=True, kw_only=True)
class Fit:
    vocabulary: Count
    layers: Count
    width: Count
    heads: Count
    steps: Count
    batch: Count
    learning_rate: Positive
    seed: Seed


@dataclass(frozen=True, kw_only=True)
class ReaderFit(Fit):
    architecture: Literal["qwen3", "olmo2", "llama"]
    tokenizer: Literal["word", "bpe"]
    muon_learning_rate: Positive
    lm_weight: NotNegative
    held_out: Count


@dataclass(frozen=True, kw_only=True)
class EncoderFit(Fit):
    feed_forward: Count
    temperature: Positive


@dataclass(frozen=True)
class Reader:
    model: Model
    revision: str | None
    prompt: Prompt
    dtype: Literal["float32", "bfloat16", "float16"]
    max_length: Count
    max_new_tokens: Count
    fit: ReaderFit | None = None  # exactly when model is fit
    chat: bool = False  # the prompt is what the user says in the tokenizer's chat template
    answer_end: str = ""  # scored after every answer
    stop: Stops | None = None  # texts that end a generated answer
    attention: Attention = "auto"


@dataclass(frozen=True)
class Encoder:
    model: Model
    revision: str | None
    pooling: Literal["mean", "cls"]
    query_prefix: str
    passage_prefix: str
    max_length: Count
    fit: EncoderFit | None = None  # exactly when model is fit


@dataclass(frozen=True)
class Labels:
    kind: Literal["annotators", "selected", "truth", "has_answer", "reader", "published", "permuted"]
    needs: str
    annotator: Literal["skim", "uniform"] | None = None  # LABEL_FIELDS says which kind has which of these
    noise: Share | None = None
    seed: Seed | None = None
    hub: Hub | None = None  # published: read in the place of needs
    reader: str | None = None  # published: the one whose losses these are, if it is in readers

    @property
    def labeller(self) -> str | None:
        """The reader whose own answer losses these are, if it is known."""
        return Path(self.needs).name if self.kind == "reader" else self.reader


@dataclass(frozen=True)
class RerankerFit:
    steps: Count
    batch: Count
    learning_rate: Positive
    temperature: Positive
    seed: Seed


@dataclass(frozen=True)
class DerivedLabels:
    kind: Literal["mined", "on_policy", "reranker"]
    needs: str
    encoder: str
    per_query: Count | None = None  # DERIVED_FIELDS says which kind has which of these
    depth: Count | None = None
    below: Share | None = None
    fit: RerankerFit | None = None


@dataclass(frozen=True)
class Label:
    batch_tokens: Count
    unscorable: Literal["error", "skip"]
    mlflow: bool


@dataclass(frozen=True)
class Temperature:
    student: Positive
    teacher: Positive


@dataclass(frozen=True)
class Run:
    labels: str
    encoder: str
    losses: dict[LossName, NotNegative]
    temperature: Temperature
    margin: Positive
    learning_rate: Positive | None = None  # None: train.learning_rate
    in_batch: Literal["no_passage", "zero", "none"] = "no_passage"  # kl: the batch's other passages
    nll: Literal["mean", "sum"] = "mean"  # over the answer's tokens
    references: Literal["first", "best", "mean"] = "first"  # which reference answer's loss counts
    gain: bool = False  # losses are taken over the loss without a passage
    empty_candidate: bool = False  # the empty passage is one more candidate
    infeasible_margin: bool = False  # margin is 2 or more on purpose
    trains: Literal["both", "query"] = "both"  # query: passages stay as the starting encoder has them
    seeds: Seeds | None = None  # None: train.seeds


@dataclass(frozen=True)
class Train:
    seeds: Seeds
    epochs: Count
    queries_per_batch: Count
    learning_rate: Positive
    warmup: Share
    schedule: Literal["cosine", "linear", "constant"]
    weight_decay: NotNegative
    clip: Positive
    micro_batch_tokens: Count
    select: Literal["loss", "last"]
    mlflow: bool
    precision: Literal["float32", "bfloat16"] = "float32"  # of encoding
    recompute: bool = False  # activations are computed again instead of kept
    attention: Attention = "auto"
    checkpoint_seconds: NotNegative = 60.0


@dataclass(frozen=True)
class Evaluate:
    split: Literal["test", "validation"]
    corpus_size: Count | None  # None: all of corpus.parquet
    empty_passage: bool
    top_k: Annotated[int, Rule(lambda number: number >= 10, "at least 10, which nDCG@10 and recall@10 look at")]
    shown: Shown
    batch_tokens: Count


@dataclass(frozen=True)
class Control:
    encoder: str
    human_source: str
    random_draws: Count
    seed: Seed


@dataclass(frozen=True)
class Calls:
    in_flight: Count
    per_minute: Positive
    timeout: Positive
    attempts: Count
    first_wait: NotNegative
    longest_wait: Positive
    output_tokens: Count


@dataclass(frozen=True)
class Cost:
    limit: Positive
    input: NotNegative
    output: NotNegative


@dataclass(frozen=True)
class Scoring:
    revision: str | None
    dtype: Literal["float32", "bfloat16", "float16"]
    chat: bool
    max_length: Count
    batch_tokens: Count


@dataclass(frozen=True)
class Judge:
    kind: Literal["rule", "gemini", "llm"]
    model: JudgeModel | None = None  # JUDGE_FIELDS says which kind has which of these
    min_coverage: Share | None = None
    calls: Calls | None = None
    cost: Cost | None = None
    scoring: Scoring | None = None
    prompt: JudgePrompt | None = None  # None: judges.PROMPT


@dataclass(frozen=True)
class Compare:
    baseline: str
    primary: str
    label_source: str
    human_source: str
    reader: str
    draws: Annotated[int, Rule(lambda number: number >= 20, "at least 20")]
    seed: Seed
    equivalence: Positive


@dataclass(frozen=True)
class Params:
    data: Data
    beyond: Data | None  # another domain, of whose questions the test split is answered too
    readers: dict[Name, Reader]
    encoders: dict[Name, Encoder]
    labels: dict[Name, Labels]
    label: Label
    derived_labels: dict[Name, DerivedLabels]
    runs: dict[Name, Run]
    train: Train
    evaluate: Evaluate
    control: Control
    judge: Judge
    compare: Compare

    @property
    def sources(self) -> dict[str, Labels | DerivedLabels]:
        """Whatever a run's labels may name."""
        return {**self.labels, **self.derived_labels}

    @property
    def untrained(self) -> dict[str, str]:
        """Encoders before training, by the name of the control that they are."""
        return {"untrained" if name == self.control.encoder else f"untrained_{name}": name for name in self.encoders}

    @property
    def controls(self) -> list[str]:
        """What answers without a trained retriever."""
        return ["no_passage", "random", "annotated", "oracle", "bm25", *self.untrained]

    def losses_of(self, reader: str) -> str | None:
        """The label source that holds this reader's own answer losses, if there is one."""
        found = [name for name, labels in self.labels.items() if labels.labeller == reader]
        return next(iter(sorted(found, key=lambda name: self.labels[name].kind != "reader")), None)


SOFT_KINDS = ("reader", "published", "permuted", "on_policy", "reranker")  # answer losses; the others are binary
DATA_FIELDS = {"squad": {"hub", "num_titles", "questions_per_title"}}  # beside those of every source
DATA_FIELDS |= {"msmarco": {"hub", "limits"}, "jsonl": {"hub", "limits"}}
LABEL_FIELDS = {"annotators": {"annotator", "noise", "seed"}, "permuted": {"seed"}}  # beside kind and needs
LABEL_OPTIONS = {"published": {"hub", "reader"}}  # the same, which may be left out
DERIVED_FIELDS = {"mined": {"per_query", "depth", "below"}, "on_policy": {"per_query"}, "reranker": {"fit"}}
JUDGE_FIELDS = {
    "rule": set(),
    "gemini": {"model", "min_coverage", "calls", "cost"},
    "llm": {"model", "min_coverage", "scoring"},
}
TRAIN = "data/prepared/train.parquet"  # what label sources need that need nothing else
NEVER_LOOK = {"margin", "margin_mse", "mse_minmax"}  # beyond the own candidates; nor does kl with in_batch none
OTHER_DATA = dict.fromkeys(DATA_FIELDS, {"truth", "annotators"})  # kinds that such data cannot give
OTHER_DATA |= {"synthetic": {"selected", "published"}}


def load_params(path: Path | str = "params.yaml") -> Params:
    """Read and check params. Raises ParamsError on the first thing that is wrong; warns of a margin above 1."""
    return parse_params(read_yaml(path), path)


def parse_params(tree: dict[str, Any], source: Path | str) -> Params:
    """Params from the nested dict of a YAML file; `source` is what errors call it."""
    try:
        params = build(Params, tree, "")
        for wrong, problem in _relations(params):  # lazily: each may rely on those before
            if wrong:
                raise ParamsError(problem)
    except ParamsError as error:
        raise ParamsError(f"{source}: {error}") from None
    for name, run in params.runs.items():
        if run.margin > 1 and not run.infeasible_margin:
            warnings.warn(f"{source}: runs.{name}.margin: {run.margin} is above 1: rarely closes.", stacklevel=3)
        if run.gain and run.references != "best":
            warnings.warn(
                f"{source}: runs.{name}.gain: changes nothing with references {run.references}: the loss without a "
                "passage is the same for all of a query's passages, which is all that a loss compares.",
                stacklevel=3,
            )
    return params


# -- what relates several values: (whether it is wrong, dotted path and what to say) --------------------------------

Relations = Iterator[tuple[bool, str]]


def is_hub_id(model: str) -> bool:
    """Whether `model` is to be fetched from a hub: neither fit, nor pkg://…, nor a folder or an explicit path."""
    return model != "fit" and not model.startswith(("pkg://", "/", "./", "../")) and not Path(model).is_dir()


def _relations(params: Params) -> Relations:
    yield from _data_relations("data", params.data)
    if params.beyond:
        yield from _data_relations("beyond", params.beyond)
        yield from _beyond_relations(params.beyond, params.data)
    for name, reader in params.readers.items():
        yield from _model_relations(f"readers.{name}", reader)
    for name, encoder in params.encoders.items():
        yield from _model_relations(f"encoders.{name}", encoder)
    for name, labels in params.labels.items():
        yield from _label_relations(f"labels.{name}", labels, params.data.source)
    for at, name, legal in _references(params):
        one_of(name, legal, at)
    for name, labels in params.derived_labels.items():
        yield from _derived_relations(f"derived_labels.{name}", name, labels, params)
    seeds, draws = len(params.train.seeds), params.control.random_draws
    yield draws not in (1, seeds), f"control.random_draws: must be 1 or as many as train.seeds ({seeds}), got {draws}."
    taken = [*params.controls, "all"]
    for name, run in params.runs.items():
        yield name in taken, f"runs.{name}: results call something else so ({', '.join(taken)}); rename the run."
        yield from _run_relations(f"runs.{name}", run, params)
    shown, top_k = params.evaluate.shown, params.evaluate.top_k
    yield max(shown) > top_k, f"evaluate.shown: must be at most top_k ({top_k}), got {max(shown)}."
    yield from _judge_relations(params.judge, params.readers)
    primary, baseline = params.compare.primary, params.compare.baseline
    yield primary == baseline, f"compare.primary: {primary!r} is compare.baseline too; name the run to compare with it."


def _references(params: Params) -> Iterator[tuple[str, str, Iterable[str]]]:
    """Dotted path, the name that stands there, and the names that may stand there."""
    losses = [name for name, labels in params.labels.items() if labels.kind in ("reader", "published")]
    binary = [name for name, labels in params.labels.items() if labels.kind not in SOFT_KINDS]
    needs = {
        "reader": [f"models/readers/{name}" for name in params.readers],
        "permuted": [f"data/labels/{name}" for name in losses],
    }
    for name, labels in params.labels.items():
        of_files = [labels.needs] if labels.kind == "published" and not labels.hub else [TRAIN]
        yield f"labels.{name}.needs", labels.needs, needs.get(labels.kind, of_files)
        if labels.reader:
            yield f"labels.{name}.reader", labels.reader, params.readers
    encoders = [*(f"models/encoders/{name}" for name in params.encoders), *(f"models/runs/{n}" for n in params.runs)]
    labelled = {name: labels.kind for name, labels in params.sources.items() if labels.kind != "mined"}
    needs["mined"] = [f"data/labels/{name}" for name in labelled]
    needs["reranker"] = [f"data/labels/{name}" for name, kind in labelled.items() if kind in SOFT_KINDS]
    needs["on_policy"] = needs["reader"]
    for name, labels in params.derived_labels.items():
        yield f"derived_labels.{name}.needs", labels.needs, needs[labels.kind]
        yield f"derived_labels.{name}.encoder", labels.encoder, encoders
    for name, run in params.runs.items():
        yield f"runs.{name}.labels", run.labels, params.sources
        yield f"runs.{name}.encoder", run.encoder, params.encoders
    yield "compare.baseline", params.compare.baseline, params.runs
    yield "compare.primary", params.compare.primary, params.runs
    yield "compare.label_source", params.compare.label_source, losses
    yield "compare.human_source", params.compare.human_source, binary
    yield "compare.reader", params.compare.reader, params.readers
    yield "control.encoder", params.control.encoder, params.encoders
    yield "control.human_source", params.control.human_source, binary


def _data_relations(at: str, data: Data) -> Relations:
    generated = data.source == "synthetic"
    section = {"synthetic": "world", "squad": "articles"}.get(data.source)
    total = sum(dataclasses.astuple(data.articles)) if data.articles else 0.0
    missing = section is not None and getattr(data, section) is None
    yield missing, f"{at}.{section}: missing. {at}.source {data.source} reads it."
    for field in ("hub", "num_titles", "questions_per_title", "limits"):
        unread = field not in DATA_FIELDS.get(data.source, ()) and getattr(data, field) is not None
        yield unread, f"{at}.{field}: {at}.source {data.source} does not read it; remove it."
    yield generated and data.candidates != 10, f"{at}.candidates: a generated world makes 10, not {data.candidates}."
    yield total > 1 + 1e-9, f"{at}.articles: the shares sum to {total:g}; lower them to 1 or less."


def _beyond_relations(beyond: Data, data: Data) -> Relations:
    yield beyond == data, "beyond: is what data is; name another source, or null."
    followed = beyond.hub or beyond.source == "synthetic" or Path(beyond.path).is_relative_to(data.path)
    yield (
        not followed,
        (f"beyond.path: must be data.path ({data.path}) or inside it, which is what DVC follows, got {beyond.path!r}."),
    )


def _model_relations(at: str, model: Reader | Encoder) -> Relations:
    name, revision, fit = model.model, model.revision, model.fit
    hub, fitted = is_hub_id(name), name == "fit"
    yield fitted and fit is None, f"{at}.fit: missing. It is required as model is fit."
    yield not fitted and fit is not None, f"{at}.fit: only used when model is fit, not {name!r}; remove one of them."
    if fit is not None:
        wrong = fit.width % fit.heads != 0
        yield wrong, f"{at}.fit.width: must be a multiple of heads ({fit.heads}), got {fit.width}."
    yield from _revision_relations(f"{at}.revision", name, revision, hub, ["fit"])


def _revision_relations(at: str, name: str, revision: str | None, hub: bool, others: Iterable[str]) -> Relations:
    """others: what may stand in the place of a hub id."""
    yield not hub and revision is not None, f"{at}: must be null as {name!r} is no hub id, got {revision!r}."
    yield (
        hub and not re.fullmatch("[0-9a-f]{40}", revision or ""),
        (
            f"{at}: must be a 40-hex commit as model {name!r} is a hub id, got {revision!r}. A branch can move "
            f"unnoticed: `git ls-remote https://huggingface.co/{name} {revision or 'main'}` prints the commit to paste; "
            f"a folder is written ./{name}.{nearest(name, others)}"
        ),
    )


def _judge_relations(judge: Judge, readers: Iterable[str]) -> Relations:
    kind, used = judge.kind, JUDGE_FIELDS[judge.kind]
    for field in sorted(set().union(*JUDGE_FIELDS.values())):
        absent = getattr(judge, field) is None
        yield field in used and absent, f"judge.{field}: missing. Kind {kind} needs it."
        yield field not in used and not absent, f"judge.{field}: kind {kind} does not use it; remove it."
    yield not used and judge.prompt is not None, f"judge.prompt: kind {kind} does not use it; remove it."
    if judge.scoring is not None:
        hub = judge.model not in readers and is_hub_id(judge.model)
        yield from _revision_relations("judge.scoring.revision", judge.model, judge.scoring.revision, hub, readers)


def _label_relations(at: str, labels: Labels, data_source: str) -> Relations:
    kind, used = labels.kind, LABEL_FIELDS.get(labels.kind, set())
    yield kind in OTHER_DATA[data_source], f"{at}.kind: data.source {data_source} cannot give {kind}; remove it."
    for field in sorted(set().union(*LABEL_FIELDS.values())):
        absent = getattr(labels, field) is None
        yield field in used and absent, f"{at}.{field}: missing. Kind {kind} needs it."
        yield field not in used and not absent, f"{at}.{field}: kind {kind} does not use it; remove it."
    for field in sorted(set().union(*LABEL_OPTIONS.values())):
        unread = field not in LABEL_OPTIONS.get(kind, ()) and getattr(labels, field) is not None
        yield unread, f"{at}.{field}: kind {kind} does not use it; remove it."
    yield (
        kind == "published" and not labels.hub and labels.needs == TRAIN,
        (f"{at}.needs: name the file or folder of the soft labels, or give {at}.hub."),
    )


def _derived_relations(at: str, name: str, labels: DerivedLabels, params: Params) -> Relations:
    yield name in params.labels, f"{at}: labels has this name too; rename one of them."
    used = DERIVED_FIELDS[labels.kind]
    for field in sorted(set().union(*DERIVED_FIELDS.values())):
        absent = getattr(labels, field) is None
        yield field in used and absent, f"{at}.{field}: missing. Kind {labels.kind} needs it."
        yield field not in used and not absent, f"{at}.{field}: kind {labels.kind} does not use it; remove it."
    shallow = labels.depth is not None and labels.depth < labels.per_query
    yield shallow, f"{at}.depth: must be at least per_query ({labels.per_query}), got {labels.depth}."
    circle = _circle(f"data/labels/{name}", params)
    yield circle != (), f"{at}: is made from itself ({' < '.join(circle)}); let it need what is there before."


def _circle(path: str, params: Params, above: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Paths by which what lies at `path` is made from itself; none if it is not."""
    if path in above:
        return (*above[above.index(path) :], path)
    return next(filter(None, (_circle(part, params, (*above, path)) for part in _made_from(path, params))), ())


def _made_from(path: str, params: Params) -> tuple[str, ...]:
    folder, _, name = path.rpartition("/")
    if folder == "models/runs":
        return (f"data/labels/{params.runs[name].labels}",)
    if folder == "data/labels" and name in params.derived_labels:
        return params.derived_labels[name].needs, params.derived_labels[name].encoder
    return ()


def origin(source: str, params: Params) -> Labels | DerivedLabels:
    """The label source that a source which mines or permutes takes its labels from; any other is its own."""
    labels = params.sources[source]
    return origin(labels.needs.rpartition("/")[2], params) if labels.kind in ("mined", "permuted") else labels


def is_permuted(source: str, params: Params) -> bool:
    """Whether a source's labels are in random order within a question, those of what it is derived from included."""
    labels = params.sources[source]
    if labels.kind in ("mined", "reranker"):
        return is_permuted(labels.needs.rpartition("/")[2], params)
    return labels.kind == "permuted"


def is_soft(source: str, params: Params) -> bool:
    """Whether a label source gives answer losses; one that mines gives what its own source gives."""
    return origin(source, params).kind in SOFT_KINDS


def _run_relations(at: str, run: Run, params: Params) -> Relations:
    kind, soft = params.sources[run.labels].kind, is_soft(run.labels, params)
    source = f"source {run.labels!r} (kind {kind})"
    yield from _loss_relations(f"{at}.losses", run, source, soft)
    for field in ("gain", "empty_candidate"):
        wrong = getattr(run, field) and not soft
        yield wrong, f"{at}.{field}: {source} is binary and says nothing of no passage; remove it."
    yield (
        run.nll == "sum" and origin(run.labels, params).kind == "published",
        (f"{at}.nll: {source} has means alone; take mean."),
    )
    blind = NEVER_LOOK | ({"kl"} if run.in_batch == "none" else set())
    yield (
        kind == "mined" and {name for name, weight in run.losses.items() if weight} <= blind,
        (
            f"{at}.labels: {source} adds negatives, and none of {', '.join(run.losses)} looks beyond a query's own "
            "candidates; take the source that it needs."
        ),
    )
    heeded = run.losses.get("kl", 0.0) > 0
    yield (
        run.in_batch != "no_passage" and not heeded,
        (f"{at}.in_batch: {run.in_batch} is for kl, which is none of {', '.join(run.losses)}; remove it."),
    )
    seeds, paired = len(run.seeds or params.train.seeds), len(params.train.seeds)
    yield seeds != paired, f"{at}.seeds: must be as many as train.seeds ({paired}), seed by seed paired, got {seeds}."
    beyond = run.margin >= 2
    yield (
        beyond and not run.infeasible_margin,
        (
            f"{at}.margin: must be below 2, as cosines lie 2 apart at most, got {run.margin}; `infeasible_margin: true` "
            "lets it stand."
        ),
    )
    yield run.infeasible_margin and not beyond, f"{at}.infeasible_margin: margin {run.margin} is below 2; remove it."


def _loss_relations(at: str, run: Run, source: str, soft: bool) -> Relations:
    yield not any(run.losses.values()), f"{at}: no loss has a weight above 0, got {run.losses}."
    for loss in run.losses:
        binary = loss in BINARY_LOSSES
        yield binary and soft, f"{at}.{loss}: needs binary labels, {source} is soft. infonce_soft converts them."
        yield not binary and not soft, f"{at}.{loss}: needs soft labels (a reader's answer losses), {source} is binary."
