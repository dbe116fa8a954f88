"""params.yaml: refusals and their words, and how a profile becomes params.yaml.

Every case edits the real default profile; the value under test is all that differs from it.
"""

import copy
import dataclasses
import re
import shutil
import warnings
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import trained

import use_profile
from bitter_retrieval.labels.soft import REFERENCES
from bitter_retrieval.lineage import is_soft, losses_of
from bitter_retrieval.models.settings import is_hub_id
from bitter_retrieval.params import load_params, parse_params
from bitter_retrieval.training.settings import LOSSES
from bitter_retrieval.typed_yaml import ParamsError, parse_yaml

ROOT = Path(__file__).parents[2]
DEFAULT = ROOT / "profiles" / "default.yaml"
WRITTEN = yaml.safe_load(DEFAULT.read_text())
TRAIN = "data/prepared/train.parquet"
LABELS = {
    "human": {"kind": "annotators", "needs": TRAIN, "annotator": "skim", "noise": 0.1, "seed": 0},
    "truth": {"kind": "truth", "needs": TRAIN},
    "has_answer": {"kind": "has_answer", "needs": TRAIN},
    "reader_a": {"kind": "reader", "needs": "models/readers/reader_a"},
    "reader_b": {"kind": "reader", "needs": "models/readers/reader_b"},
    "permuted": {"kind": "permuted", "needs": "data/labels/reader_a", "seed": 0},
    "flat": {"kind": "flat", "needs": "data/labels/reader_a"},
    "noisy": {"kind": "noisy", "needs": "data/labels/reader_a", "noise": 0.5, "seed": 0},
}


RUNS = {
    "infonce": trained("human", infonce=1.0),
    "infonce_truth": trained("truth", infonce=1.0),
    "kl": trained("reader_a", kl=1.0),
    "kl_permuted": trained("permuted", kl=1.0),
    "mse": trained("reader_a", mse=1.0),
    "margin": trained("reader_a", margin=1.0),
}
# The default profile, with every kind of label source, and with runs whose names the edits below know.
TREE = WRITTEN | {"labels": LABELS, "runs": RUNS}
TREE["compare"] = WRITTEN["compare"] | {
    "baseline": "infonce",
    "primary": "kl",
    "contrasts": {"loss": ["infonce", "kl"]},
}
COMMIT = "b968826d9c46dd6066d109eabc6255188de91218"
DELETE = object()


def edited(edits: dict[str, Any]) -> dict[str, Any]:
    """TREE with values put at, or deleted from, slash-separated paths."""
    tree = copy.deepcopy(TREE)
    for path, value in edits.items():
        *parents, last = path.split("/")
        section = tree
        for parent in parents:
            section = section[parent]
        if value is DELETE:
            del section[last]
        else:
            section[last] = value
    return tree


def refusal(edits: dict[str, Any]) -> str:
    with pytest.raises(ParamsError) as caught:
        parse_params(edited(edits), "params.yaml")
    return str(caught.value)


SQUAD = {
    "data/source": "squad",
    "data/path": "data/raw/squad",
    "labels/human": {"kind": "selected", "needs": "data/prepared/train.parquet"},
    "labels/truth": DELETE,
    "runs/infonce_truth": DELETE,
}

HUB = SQUAD | {"data/source": "msmarco", "data/hub": {"id": "microsoft/ms_marco", "config": "v1.1", "revision": COMMIT}}
PUBLISHED = {"kind": "published", "needs": "data/raw/labels"}
THEIR_HUB = {"id": "nickcdryan/ms_marco_softlabel_Qwen3-8B-Base_bf16", "revision": None}

HARD = {"kind": "mined", "needs": "data/labels/human", "encoder": "models/encoders/mini", "per_query": 2}
HARD |= {"depth": 50, "below": 0.95}
SECOND = {"kind": "on_policy", "needs": "models/readers/reader_a", "encoder": "models/runs/kl", "per_query": 10}

REFUSED: list[tuple[dict[str, Any], str, list[str]]] = [
    # keys
    ({"train/epoch": 3}, "train.epoch", ["unknown key", "Did you mean 'epochs'?"]),
    ({"trian": {}}, "trian", ["unknown key", "'train'"]),
    ({"runs/kl/temperature/studnt": 0.1}, "runs.kl.temperature.studnt", ["unknown key", "'student'"]),
    ({"readers/reader_a/fit/width": DELETE}, "readers.reader_a.fit.width", ["missing", "profiles/default.yaml"]),
    ({"judge": DELETE}, "judge", ["missing"]),
    ({"data": None}, "data", ["must be a mapping", "None"]),
    # types
    ({"train/learning_rate": "1e-3"}, "train.learning_rate", ["'1e-3'", "write 0.001, without quotes"]),
    ({"train/learning_rate": "1e-5"}, "train.learning_rate", ["write 1e-05, without quotes"]),
    ({"train/epochs": "3"}, "train.epochs", ["a whole number", "write 3,"]),
    ({"train/epochs": 3.0}, "train.epochs", ["a whole number", "3.0 (float)"]),
    ({"train/epochs": True}, "train.epochs", ["a whole number", "True (bool)"]),
    ({"train/clip": True}, "train.clip", ["a finite number", "True (bool)"]),
    ({"train/clip": float("nan")}, "train.clip", ["finite", "nan"]),
    ({"tracking/mlflow": 1}, "tracking.mlflow", ["true or false", "1 (int)"]),
    ({"train/seeds": 0}, "train.seeds", ["a list"]),
    ({"train/seeds": [0, "1"]}, "train.seeds[1]", ["a whole number"]),
    ({"encoders/mini/query_prefix": None}, "encoders.mini.query_prefix", ["must be text"]),
    # limits of one value
    ({"train/epochs": 0}, "train.epochs", ["at least 1", "0"]),
    ({"train/seeds": []}, "train.seeds", ["at least one"]),
    ({"train/seeds": [1, 1]}, "train.seeds", ["distinct"]),
    ({"train/seeds": [-1]}, "train.seeds[0]", ["from 0"]),
    ({"runs/kl/seeds": [2, 2]}, "runs.kl.seeds", ["distinct"]),
    ({"train/schedule": "cosin"}, "train.schedule", ["cosine, linear, constant", "Did you mean 'cosine'?"]),
    ({"train/select": "least"}, "train.select", ["'last'"]),
    ({"encoders/mini/pooling": "meen"}, "encoders.mini.pooling", ["'mean'"]),
    ({"readers/reader_a/dtype": "float23"}, "readers.reader_a.dtype", ["'float32'"]),
    ({"readers/reader_a/fit/architecture": "lama"}, "readers.reader_a.fit.architecture", ["'llama'"]),
    ({"readers/reader_a/fit/tokenizer": "words"}, "readers.reader_a.fit.tokenizer", ["'word'"]),
    ({"judge/kind": "rules"}, "judge.kind", ["'rule'"]),
    ({"runs/kl/nll": "som"}, "runs.kl.nll", ["'sum'"]),
    ({"runs/kl/in_batch": "nothing"}, "runs.kl.in_batch", ["no_passage, zero, none"]),
    ({"runs/kl/seeds": [3, 4]}, "runs.kl.seeds", ["as many as train.seeds (4)", "got 2"]),
    ({"control/random_draws": 2}, "control.random_draws", ["1 or as many as train.seeds (4)", "got 2"]),
    ({"compare/draws": 10}, "compare.draws", ["at least 20", "10"]),
    ({"runs/mse/in_batch": "none"}, "runs.mse.in_batch", ["'none' is for kl, margin,", "in mse; remove it"]),
    ({"runs/kl/positives": "one"}, "runs.kl.positives", ["'one' is for infonce, infonce_soft", "in kl; remove it"]),
    ({"runs/mse/pairs": "all"}, "runs.mse.pairs", ["'all' is for margin", "none of them in mse"]),
    ({"runs/infonce/positives": "all"}, "runs.infonce.positives", ["one, marginal, each"]),
    ({"runs/kl/references": "bset"}, "runs.kl.references", ["'best'"]),
    ({"runs/kl/temperature/student": 0}, "runs.kl.temperature.student", ["above 0"]),
    ({"runs/kl/temperature/teacher": -0.1}, "runs.kl.temperature.teacher", ["above 0"]),
    ({"runs/margin/margin": 2}, "runs.margin.margin", ["below 2"]),
    ({"runs/margin/margin": 0}, "runs.margin.margin", ["above 0"]),
    ({"data/world/distractor_clusters": -1}, "data.world.distractor_clusters", ["0 or more"]),
    ({"readers/reader_a/model": " "}, "readers.reader_a.model", ["fit, a path, pkg://package/folder or a hub id"]),
    (
        {"readers/reader_a/model": "x/y.gguf", "readers/reader_a/fit": None},
        "readers.reader_a.model",
        ["owner/repo/file"],
    ),
    (
        {"readers/reader_a/model": "x/y/z.gguf", "readers/reader_a/fit": None},
        "readers.reader_a.revision",
        ["huggingface.co/x/y main`"],
    ),
    ({"encoders/mini/model": "./x.gguf", "encoders/mini/fit": None}, "encoders.mini.model", ["a reader alone"]),
    (
        {
            "labels/wrong": {
                "kind": "corrupted",
                "needs": "data/labels/reader_a",
                "share": 0.2,
                "towards": "random",
                "seed": 0,
            }
        },
        "labels.wrong.needs",
        ["none of data/labels/"],
    ),
    ({"readers/reader_a/examples": []}, "readers.reader_a.examples", ["at least one"]),
    ({"readers/reader_a/examples": [{"query": "q"}]}, "readers.reader_a.examples[0].passage", ["missing"]),
    (
        {"readers/reader_a/examples": [{"passage": "", "query": "q", "answer": "a"}]},
        "readers.reader_a.examples",
        ["fitted here"],
    ),
    ({"readers/reader_a/several": "{number}"}, "readers.reader_a.several", ["{passage} once"]),
    ({"labels/human/noise": 1.1}, "labels.human.noise", ["from 0 to 1"]),
    ({"data/articles/test": -0.1}, "data.articles.test", ["from 0 to 1"]),
    ({"readers/reader_a/prompt": "Q: {query}\nA:"}, "readers.reader_a.prompt", ["{passage}", "once each"]),
    ({"readers/reader_a/prompt": "{passage} {query} {query}"}, "readers.reader_a.prompt", ["once each"]),
    ({"readers/reader_a/prompt": "{passage} {query}: "}, "readers.reader_a.prompt", ["no space at its end"]),
    ({"readers/reader_a/chat": "yes"}, "readers.reader_a.chat", ["true or false", "'yes'"]),
    ({"readers/reader_a/answer_end": None}, "readers.reader_a.answer_end", ["must be text", "None"]),
    ({"readers/reader_a/answer_ends": "."}, "readers.reader_a.answer_ends", ["Did you mean 'answer_end'?"]),
    ({"runs/kl.2": TREE["runs"]["kl"]}, "runs", ["'kl.2'", "a dot nests in DVC's params"]),
    ({"runs/KL": TREE["runs"]["kl"]}, "runs", ["'KL'", "a-z"]),
    ({"encoders": {2024: TREE["encoders"]["mini"]}}, "encoders", ["must be text", "2024"]),
    # data
    ({"data/source": "sqad"}, "data.source", ["Did you mean 'squad'?"]),
    ({"data/world": None}, "data.world", ["missing"]),
    ({"data/candidates": 5}, "data.candidates", ["makes 10, not 5"]),
    ({"data/articles/test": 0.5}, "data.articles", ["sum to 1.3"]),
    (SQUAD | {"data/path": None}, "data.path", ["missing", "Source squad needs it"]),
    (SQUAD | {"data/articles": DELETE}, "data.articles", ["missing", "squad"]),
    # models
    ({"readers/reader_a/fit": None}, "readers.reader_a.fit", ["missing"]),
    ({"readers/reader_a/model": "./models/mine"}, "readers.reader_a.fit", ["only used when model is fit"]),
    ({"readers/reader_a/fit/heads": 5}, "readers.reader_a.fit.width", ["multiple of heads (5)", "96"]),
    ({"encoders/mini/fit/heads": 5}, "encoders.mini.fit.width", ["multiple of heads (5)", "128"]),
    ({"readers/reader_a/revision": COMMIT}, "readers.reader_a.revision", ["must be null", "'fit'"]),
    (
        {"encoders/mini/model": "nomic-ai/nomic-embed", "encoders/mini/fit": None, "encoders/mini/revision": "main"},
        "encoders.mini.revision",
        ["40-hex", "'main'", "git ls-remote https://huggingface.co/nomic-ai/nomic-embed main"],
    ),
    (
        {"encoders/mini/model": "nomic-ai/nomic-embed", "encoders/mini/fit": DELETE},
        "encoders.mini.revision",
        ["40-hex", "None"],
    ),
    (
        {"encoders/mini/model": "pkg://package/model", "encoders/mini/fit": None, "encoders/mini/revision": COMMIT},
        "encoders.mini.revision",
        ["must be null", "'pkg://package/model'"],
    ),
    ({"encoders/mini/model": "fti", "encoders/mini/fit": None}, "encoders.mini.revision", ["Did you mean 'fit'?"]),
    # labels
    ({"labels/truth/kind": "thruth"}, "labels.truth.kind", ["Did you mean 'truth'?"]),
    ({"labels/human/noise": DELETE}, "labels.human.noise", ["missing", "annotators"]),
    ({"labels/permuted/seed": DELETE}, "labels.permuted.seed", ["missing", "permuted"]),
    ({"labels/permuted/noise": 0.1}, "labels.permuted.noise", ["permuted does not use it"]),
    ({"labels/truth/noise": 0.1}, "labels.truth.noise", ["truth does not use it"]),
    ({"labels/truth/supports": "two"}, "labels.truth.supports", ["all, one"]),
    ({"labels/flat/seed": 1}, "labels.flat.seed", ["flat does not use it"]),
    ({"labels/flat/needs": "data/labels/truth"}, "labels.flat.needs", ["data/labels/reader_a"]),
    ({"labels/noisy/noise": -0.1}, "labels.noisy.noise", ["0 or more"]),
    ({"labels/noisy/noise": DELETE}, "labels.noisy.noise", ["missing", "Kind noisy needs it"]),
    ({"labels/human/needs": "data/prepared/test.parquet"}, "labels.human.needs", ["'data/prepared/train.parquet'?"]),
    ({"labels/reader_a/needs": "models/readers/reader_x"}, "labels.reader_a.needs", ["Did you mean 'models/readers/"]),
    ({"labels/permuted/needs": "data/labels/reader_c"}, "labels.permuted.needs", ["Did you mean 'data/labels/reader_"]),
    ({"labels/permuted/needs": "data/labels/human"}, "labels.permuted.needs", ["data/labels/reader_a"]),
    ({"labels": {"permuted": TREE["labels"]["permuted"]}}, "labels.permuted.needs", ["none of (nothing)"]),
    ({"labels/human": {"kind": "selected", "needs": "data/prepared/train.parquet"}}, "labels.human.kind", ["selected"]),
    (SQUAD | {"labels/human": TREE["labels"]["human"]}, "labels.human.kind", ["squad cannot give annotators"]),
    (SQUAD | {"labels/truth": TREE["labels"]["truth"]}, "labels.truth.kind", ["squad cannot give truth"]),
    (HUB | {"data/hub": {"id": "a b", "revision": COMMIT}}, "data.hub.id", ["a dataset's id", "'a b'"]),
    (HUB | {"data/hub": {"id": "a/b", "revision": "main"}}, "data.hub.revision", ["40 hex digits", "'main'"]),
    (HUB | {"data/hub": {"id": "a/b"}}, "data.hub.revision", ["missing"]),
    (HUB | {"data/hub": {"id": "a/b", "revision": COMMIT, "configs": "x"}}, "data.hub.configs", ["'config'?"]),
    (HUB | {"data/limits": {"train": 0}}, "data.limits.train", ["at least 1"]),
    (HUB | {"data/num_titles": 5}, "data.num_titles", ["source msmarco does not use it"]),
    (SQUAD | {"data/limits": {"train": 5}}, "data.limits", ["source squad does not use it"]),
    ({"data/hub": {"id": "a/b", "revision": COMMIT}}, "data.hub", ["source synthetic does not use it"]),
    (HUB | {"labels/human": TREE["labels"]["human"]}, "labels.human.kind", ["msmarco cannot give annotators"]),
    ({"labels/theirs": PUBLISHED}, "labels.theirs.kind", ["synthetic cannot give published"]),
    (HUB | {"labels/theirs": PUBLISHED | {"needs": TRAIN}}, "labels.theirs.needs", ["name the file or folder"]),
    (HUB | {"labels/theirs": PUBLISHED | {"hub": THEIR_HUB}}, "labels.theirs.needs", ["is none of data/prepared/tr"]),
    (HUB | {"labels/theirs": PUBLISHED | {"reader": "reader_c"}}, "labels.theirs.reader", ["'reader_"]),
    (HUB | {"labels/theirs": PUBLISHED | {"seed": 1}}, "labels.theirs.seed", ["published does not use it"]),
    ({"labels/reader_a/hub": THEIR_HUB}, "labels.reader_a.hub", ["kind reader does not use it"]),
    (
        HUB | {"labels/theirs": PUBLISHED, "runs/kl/labels": "theirs", "runs/kl/nll": "sum"},
        "runs.kl.nll",
        ["'theirs' (kind published)", "has only means"],
    ),
    (
        HUB
        | {"labels/theirs": PUBLISHED, "labels/permuted/needs": "data/labels/theirs", "runs/kl_permuted/nll": "sum"},
        "runs.kl_permuted.nll",
        ["has only means"],
    ),
    # beyond
    ({"beyond": DELETE}, "beyond", ["missing"]),
    ({"beyond": {"source": "squad"}}, "beyond.path", ["missing"]),
    ({"beyond": TREE["data"] | {"world": None}}, "beyond.world", ["Source synthetic needs it"]),
    ({"beyond": TREE["data"]}, "beyond", ["equals data", "or null"]),
    (
        {"beyond": TREE["data"] | {"source": "squad", "path": "data/elsewhere"}},
        "beyond.path",
        ["must be data.path (data/raw) or inside it", "'data/elsewhere'"],
    ),
    # label
    ({"label": DELETE}, "label", ["missing", "profiles/default.yaml"]),
    ({"tracking/mlflow": DELETE}, "tracking.mlflow", ["missing"]),
    *[
        ({at: 1}, at.replace("/", "."), [f"is now tracking.{at.split('/')[1]}", "decides no result", "move it there"])
        for at in ("label/mlflow", "train/mlflow", "train/checkpoint_seconds")
    ],
    ({"label/batch_tokens": 0}, "label.batch_tokens", ["at least 1", "0"]),
    ({"label/batch_tokens": 8e3}, "label.batch_tokens", ["a whole number", "8000.0 (float)"]),
    ({"label/unscorable": "skp"}, "label.unscorable", ["error, skip", "Did you mean 'skip'?"]),
    ({"label/unscoreable": "skip"}, "label.unscoreable", ["unknown key", "'unscorable'"]),
    # runs
    ({"runs/kl/labels": "reader_z"}, "runs.kl.labels", ["'reader_z' is none of", "Did you mean 'reader_"]),
    ({"runs/kl/encoder": "maxi"}, "runs.kl.encoder", ["'maxi' is none of mini"]),
    ({"runs/kl/losses": {"kll": 1.0}}, "runs.kl.losses", ["'kll' is none of", "Did you mean 'kl'?"]),
    ({"runs/kl/losses": {"kl": -0.1}}, "runs.kl.losses.kl", ["0 or more", "-0.1"]),
    ({"runs/kl/losses": {"kl": float("inf")}}, "runs.kl.losses.kl", ["finite"]),
    ({"runs/kl/losses": {"kl": 0, "mse": 0.0}}, "runs.kl.losses", ["no loss has a weight above 0"]),
    ({"runs/kl/losses": {}}, "runs.kl.losses", ["no loss has a weight above 0"]),
    ({"runs/mse/labels": "human"}, "runs.mse.losses.mse", ["needs soft labels", "'human' (kind annotators)"]),
    ({"runs/infonce/labels": "reader_a"}, "runs.infonce.losses.infonce", ["needs binary labels", "infonce_soft"]),
    ({"runs/infonce/labels": "permuted"}, "runs.infonce.losses.infonce", ["needs binary labels"]),
    ({"runs/infonce/gain": True}, "runs.infonce.gain", ["'human' (kind annotators)", "remove it"]),
    ({"runs/infonce/empty_candidate": True}, "runs.infonce.empty_candidate", ["is binary", "remove it"]),
    ({"runs/margin/margin": 3.0}, "runs.margin.margin", ["below 2", "`infeasible_margin: true`"]),
    ({"runs/margin/infeasible_margin": True}, "runs.margin.infeasible_margin", ["0.2 is below 2", "remove it"]),
    *[
        ({f"runs/{name}": TREE["runs"]["kl"]}, f"runs.{name}", ["results use this name otherwise", "rename the run"])
        for name in ("no_passage", "random", "annotated", "oracle", "bm25", "untrained", "all")
    ],
    (
        {"encoders/other": TREE["encoders"]["mini"], "runs/untrained_other": TREE["runs"]["kl"]},
        "runs.untrained_other",
        ["untrained_other, all", "rename the run"],
    ),
    # derived labels
    ({"derived_labels": DELETE}, "derived_labels", ["missing"]),
    ({"derived_labels/reader_a": SECOND}, "derived_labels.reader_a", ["labels has this name too"]),
    ({"derived_labels/hard": HARD | {"kind": "mind"}}, "derived_labels.hard.kind", ["Did you mean 'mined'?"]),
    ({"derived_labels/hard": HARD | {"depth": None}}, "derived_labels.hard.depth", ["missing", "mined needs it"]),
    ({"derived_labels/hard": HARD | {"depth": 1}}, "derived_labels.hard.depth", ["at least per_query (2)", "1"]),
    ({"derived_labels/hard": HARD | {"below": 95}}, "derived_labels.hard.below", ["from 0 to 1"]),
    ({"derived_labels/hard": HARD | {"needs": "data/labels/humn"}}, "derived_labels.hard.needs", ["labels/human'?"]),
    ({"derived_labels/hard": HARD | {"needs": "data/labels/hard"}}, "derived_labels.hard.needs", ["is none of"]),
    ({"derived_labels/hard": HARD | {"encoder": "mini"}}, "derived_labels.hard.encoder", ["models/encoders/mini"]),
    ({"derived_labels/second": SECOND | {"depth": 9}}, "derived_labels.second.depth", ["on_policy does not use it"]),
    ({"derived_labels/second": SECOND | {"needs": "data/labels/human"}}, "derived_labels.second.needs", ["is none of"]),
    ({"derived_labels/second": SECOND | {"encoder": "models/runs/kk"}}, "derived_labels.second.encoder", ["runs/kl'?"]),
    (
        {"derived_labels/second": SECOND, "runs/kl/labels": "second"},
        "derived_labels.second",
        ["from itself", "data/labels/second < models/runs/kl < data/labels/second"],
    ),
    (
        {
            "derived_labels": {"hard": HARD | {"encoder": "models/runs/kl", "needs": "data/labels/second"}}
            | {"second": SECOND | {"encoder": "models/runs/infonce"}},
            "runs/infonce/labels": "hard",
        },
        "derived_labels.hard",
        ["hard < data/labels/second < models/runs/infonce < data/labels/hard"],
    ),
    (
        {"derived_labels/hard": HARD, "runs/mse/labels": "hard"},
        "runs.mse.losses.mse",
        ["'hard' (kind mined) is binary"],
    ),
    ({"derived_labels/second": SECOND, "runs/infonce/labels": "second"}, "runs.infonce.losses.infonce", ["is soft"]),
    (
        {
            "derived_labels/hard": HARD | {"needs": "data/labels/reader_a"},
            "runs/mse": trained("hard", mse_minmax=1.0),
        },
        "runs.mse.labels",
        ["adds negatives", "none of mse_minmax uses passages besides"],
    ),
    *[
        (
            {
                "derived_labels/hard": HARD | {"needs": "data/labels/reader_a"},
                f"runs/{name}/labels": "hard",
                f"runs/{name}/in_batch": "none",
            },
            f"runs.{name}.labels",
            [f"none of {name} uses passages besides"],
        )
        for name in ("kl", "margin")
    ],
    ({"derived_labels/second": SECOND, "compare/label_source": "second"}, "compare.label_source", ["is none of"]),
    # evaluate and compare
    ({"evaluate/shown": [1, 11]}, "evaluate.shown", ["at most top_k (10)", "11"]),
    ({"evaluate/shown": []}, "evaluate.shown", ["distinct numbers, at least one"]),
    ({"evaluate/shown": [5, 5]}, "evaluate.shown", ["distinct numbers"]),
    ({"evaluate/top_k": 9}, "evaluate.top_k", ["at least 10", "recall@10"]),
    ({"compare/baseline": "infonse"}, "compare.baseline", ["Did you mean 'infonce'?"]),
    ({"compare/primary": "infonce"}, "compare.primary", ["'infonce' is compare.baseline too", "name the run to comp"]),
    ({"compare/contrasts/loss": ["kl", "infonse"]}, "compare.contrasts.loss[1]", ["Did you mean 'infonce'?"]),
    ({"compare/contrasts/loss": ["kl"]}, "compare.contrasts.loss", ["a run and another as its baseline"]),
    ({"compare/contrasts/loss": ["kl", "kl"]}, "compare.contrasts.loss", ["a run and another as its baseline"]),
    ({"compare/contrasts/kl": ["kl", "infonce"]}, "compare.contrasts.kl", ["a run has this name"]),
    ({"compare/label_source": "permuted"}, "compare.label_source", ["none of reader_a, reader_b"]),
    ({"compare/human_source": "reader_a"}, "compare.human_source", ["none of human, truth, has_answer"]),
    ({"compare/human_source": None}, "compare.human_source", ["must be text"]),
    ({"compare/reader": "reader"}, "compare.reader", ["Did you mean 'reader_"]),
]


@pytest.mark.parametrize(("edits", "at", "says"), REFUSED, ids=[f"{i}-{case[1]}" for i, case in enumerate(REFUSED)])
def test_refusals_name_file_path_and_remedy(edits: dict[str, Any], at: str, says: list[str]) -> None:
    message = refusal(edits)
    assert message.startswith(f"params.yaml: {at}: ")
    for part in says:
        assert part in message


# -- accepted params -----------------------------------------------------------------------------------------------


def test_default_profile_loads_with_every_value_as_written() -> None:
    params = load_params(DEFAULT)
    assert params.readers["reader_b"].fit is not None and params.readers["reader_b"].fit.architecture == "olmo2"
    assert _without_defaults(dataclasses.asdict(params), WRITTEN) == WRITTEN


def _without_defaults(built: Any, written: Any) -> Any:
    """`built` without the keys that `written` leaves out."""
    if not isinstance(built, dict):
        return built
    return {key: _without_defaults(value, written[key]) for key, value in built.items() if key in written}


def test_optional_fields_of_a_run() -> None:
    run = parse_params(edited({}), "params.yaml").runs["kl"]
    left_out = (run.learning_rate, run.in_batch, run.positives, run.nll, run.references, run.seeds)
    assert left_out == (None, "no_passage", "each", "mean", REFERENCES, None)
    assert (run.gain, run.empty_candidate, run.infeasible_margin) == (False, False, False)
    options = {"learning_rate": 0.01, "in_batch": "none", "nll": "sum", "references": "first", "seeds": [4, 5, 6, 7]}
    options |= {"gain": True, "empty_candidate": True}
    with pytest.warns(UserWarning, match="gain: changes nothing with references first"):
        changed = parse_params(edited({"runs/kl": TREE["runs"]["kl"] | options}), "params.yaml").runs["kl"]
    assert {name: getattr(changed, name) for name in options} == options


def test_optional_fields_of_a_reader() -> None:
    left_out = load_params(DEFAULT).readers["reader_a"]
    assert (left_out.chat, left_out.answer_end) == (False, "")
    chat = {"model": "./models/chat", "fit": None, "chat": True, "answer_end": "<eos>"}
    edits = {"readers/reader_a": TREE["readers"]["reader_a"] | chat}
    changed = parse_params(edited(edits), "params.yaml").readers["reader_a"]
    assert (changed.chat, changed.answer_end) == (True, "<eos>")


def test_whole_numbers_become_floats_where_a_float_is_meant() -> None:
    clip = parse_params(edited({"train/clip": 2}), "params.yaml").train.clip
    assert clip == 2.0 and type(clip) is float


def test_squad_with_selected_labels_is_accepted() -> None:
    params = parse_params(edited(SQUAD | {"data/world": DELETE, "data/candidates": 20}), "params.yaml")
    assert (params.data.world, params.data.candidates, params.labels["human"].kind) == (None, 20, "selected")


def test_a_dataset_of_a_hub_is_accepted_and_so_is_one_whose_commit_is_not_known() -> None:
    edits = HUB | {"data/limits": {"train": 80000}, "data/articles": None, "labels/theirs": PUBLISHED}
    edits |= {"labels/their_hub": {"kind": "published", "needs": TRAIN, "hub": THEIR_HUB, "reader": "reader_b"}}
    edits |= {"labels/permuted/needs": "data/labels/theirs", "compare/label_source": "theirs"}
    del edits["data/path"]
    params = parse_params(edited(edits), "params.yaml")
    assert params.data.hub.config == "v1.1" and params.labels["their_hub"].hub.revision is None
    assert (params.data.limits.train, params.data.limits.test, params.data.limits.reader) == (80000, None, 0)
    assert is_soft("permuted", params) and losses_of("reader_b", params) == "reader_b"
    del edits["labels/theirs"], edits["labels/permuted/needs"], edits["compare/label_source"]
    params = parse_params(edited(edits | {"labels/reader_b": DELETE}), "params.yaml")
    assert losses_of("reader_b", params) == "their_hub" and losses_of("reader_c", params) is None


def test_your_own_questions_need_no_shares() -> None:
    edits = SQUAD | {"data/source": "jsonl", "data/articles": DELETE}
    assert parse_params(edited(edits), "params.yaml").data.articles is None


def test_hub_model_with_a_commit_is_accepted() -> None:
    edits = {"encoders/mini/model": "a/b", "encoders/mini/fit": None, "encoders/mini/revision": COMMIT}
    assert parse_params(edited(edits), "params.yaml").encoders["mini"].revision == COMMIT


def test_hub_ids_differ_from_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_hub_id("Qwen/Qwen3-8B")
    assert not any(map(is_hub_id, ["fit", "pkg://package/model", "/models/x", "./models/x", "../x"]))
    (tmp_path / "Qwen" / "Qwen3-8B").mkdir(parents=True)
    assert not is_hub_id("Qwen/Qwen3-8B")


def test_margin_above_one_warns_and_up_to_one_does_not(recwarn: pytest.WarningsRecorder) -> None:
    parse_params(edited({"runs/margin/margin": 1.0}), "params.yaml")
    assert not recwarn.list
    with pytest.warns(UserWarning, match=r"runs\.margin\.margin: 1\.5"):
        parse_params(edited({"runs/margin/margin": 1.5}), "params.yaml")


def test_margin_that_is_infeasible_on_purpose_is_accepted(recwarn: pytest.WarningsRecorder) -> None:
    run = TREE["runs"]["margin"] | {"margin": 3.0, "infeasible_margin": True}
    assert parse_params(edited({"runs/margin": run}), "params.yaml").runs["margin"].margin == 3.0
    assert not recwarn.list


@pytest.mark.parametrize("references", ["first", "mean"])
def test_gain_that_changes_nothing_warns(references: str) -> None:
    run = TREE["runs"]["kl"] | {"gain": True, "references": references}
    with pytest.warns(UserWarning, match=rf"runs\.kl\.gain: changes nothing with references {references}"):
        parse_params(edited({"runs/kl": run}), "params.yaml")


def test_runs_may_name_derived_labels_in_a_row_of_rounds() -> None:
    """human > infonce > what it finds, labelled > kl > hard negatives of what kl finds > stable_kd."""
    edits: dict[str, Any] = {
        "derived_labels": {
            "second": SECOND | {"encoder": "models/runs/infonce"},
            "third": HARD | {"needs": "data/labels/second", "encoder": "models/runs/kl"},
        },
        "runs/kl/labels": "second",
        "runs/third": TREE["runs"]["kl"] | {"labels": "third", "losses": {"stable_kd": 1.0}},
    }
    params = parse_params(edited(edits), "params.yaml")
    assert list(params.sources) == [*TREE["labels"], "second", "third"]
    assert params.derived_labels["third"].depth == 50
    assert is_soft("third", params) and is_soft("second", params) and not is_soft("human", params)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("train: [", "not valid YAML"),
        ("- a list", "not sections"),
        ("", "not sections"),
        ("runs:\n  kl: {}\n  kl: {}\n", "'kl' is written twice"),
    ],
)
def test_files_that_hold_no_params_are_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError, match=says) as caught:
        load_params(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_absent_file_names_the_command_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"no such file.*use_profile\.py default"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("name", LOSSES)
def test_losses_take_the_kind_of_labels_that_their_row_says(name: str) -> None:
    for source, kind in {"human": "binary", "reader_a": "soft"}.items():
        edits = {"runs/kl/losses": {name: 1.0}, "runs/kl/labels": source}
        if LOSSES[name].labels in (kind, "any"):
            parse_params(edited(edits), "params.yaml")
        else:
            assert f"runs.kl.losses.{name}: needs" in refusal(edits)


@pytest.mark.parametrize("name", LOSSES)
def test_dials_of_a_loss_are_fields_of_a_run(name: str) -> None:
    run = parse_params(edited({}), "params.yaml").runs["kl"]
    for dial in LOSSES[name].dials:
        attrgetter(dial)(run)


# -- comments of the default profile -------------------------------------------------------------------------------


def _leaves(node: yaml.Node, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], yaml.Node]]:
    """Keys that hold a value on their own line (a {...} on one line is one value)."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style:
        for key, value in node.value:
            yield from _leaves(value, (*at, key.value))
    else:
        yield at, node


def undocumented(text: str) -> list[str]:
    """Dotted keys without a comment on their line. Of named entries, one with a comment suffices."""
    lines = text.splitlines()
    keys: dict[tuple[str, ...], bool] = {}
    for path, node in _leaves(yaml.compose(text, yaml.SafeLoader)):
        beside = lines[node.end_mark.line][node.end_mark.column :].strip().startswith("#")
        key = (path[0], "*", *path[2:]) if path[0] in use_profile.NAMED_MAPS else path
        keys[key] = keys.get(key, False) or beside
    return [".".join(key) for key, documented in keys.items() if not documented]


def longer_than_a_line(text: str) -> list[int]:
    """Numbers of the lines below the file's head that continue the comment of the line above."""
    lines = text.splitlines()
    comments = [number for number, line in enumerate(lines) if line.lstrip().startswith("#")]
    return [number + 1 for number in comments if number > lines.index("") and lines[number - 1] != ""]


def test_every_key_of_the_default_profile_has_a_comment_of_one_line() -> None:
    text = DEFAULT.read_text()
    assert undocumented(text) == []
    assert longer_than_a_line(text) == [], "docs/params.md is the place for more"


def test_a_key_without_a_comment_and_a_comment_of_two_lines_are_noticed() -> None:
    text = (
        "# A profile.\n# Its head.\n\n# -- train\n# budget\ntrain:\n  epochs: 3  # passes\n  # over all\n  name: '#1'\n"
    )
    assert undocumented(text) == ["train.name"]
    assert longer_than_a_line(text) == [5, 8]


# -- use_profile ---------------------------------------------------------------------------------------------------


TWO_RUNS = {name: TREE["runs"][name] for name in ("infonce", "kl")}


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the default profile and one over it, as the working directory."""
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "default.yaml").write_text(DEFAULT.read_text())
    small = {"base": "default", "train": {"epochs": 1}, "data": {"world": {"train_clusters": 5}}}
    small |= {"runs": TWO_RUNS, "compare": {"baseline": "infonce", "primary": "kl", "contrasts": None}}
    (tmp_path / "profiles" / "small.yaml").write_text("# A small world.\n" + yaml.safe_dump(small))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_complete_profile_is_copied_with_its_comments(repo: Path) -> None:
    assert use_profile.main(["default"]) == 0
    assert (repo / "params.yaml").read_bytes() == DEFAULT.read_bytes()
    assert sorted(path.name for path in repo.iterdir()) == ["params.yaml", "profiles"]


def test_params_of_the_repo_are_the_default_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert use_profile.main(["default", "--check"]) == 0


def test_every_encoder_has_a_control_before_training() -> None:
    two = {"mini": TREE["encoders"]["mini"], "other": TREE["encoders"]["mini"]}
    assert parse_params(TREE, "params.yaml").untrained == {"untrained": "mini"}
    found = parse_params(edited({"encoders": two, "control/encoder": "other"}), "params.yaml")
    assert found.untrained == {"untrained_mini": "mini", "untrained": "other"}
    assert found.controls[-2:] == ["untrained_mini", "untrained"]


def test_another_domain_may_be_local_files_below_the_data_or_another_world() -> None:
    for changes in ({"source": "squad", "path": "data/raw/squad"}, {"seed": 1}, {"source": "squad"}):
        parse_params(edited({"beyond": TREE["data"] | changes}), "params.yaml")


@pytest.mark.parametrize("name", sorted({path.stem for path in DEFAULT.parent.glob("*.yaml")} - {"presets"}))
def test_every_profile_is_accepted_without_a_warning(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with warnings.catch_warnings(action="error"):
        assert use_profile.render(name)


def test_seed_settings_are_the_originals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    runs = use_profile.resolve("seed_settings")[0]["runs"]
    seeds = {name: run for name, run in runs.items() if name.startswith("seed_")}
    assert {tuple(run["temperature"].values()) for run in seeds.values()} == {(0.01, 0.01), (0.02, 0.01)}
    assert all((run["margin"] == 3.0) == ("margin" in run["losses"]) for run in seeds.values())
    assert not any("mse" in run["losses"] for run in seeds.values())
    for name in ("infonce_human", "kl_a"):  # shared with the default, not trained again
        assert runs[name] == WRITTEN["runs"].get(name, runs[name])


def test_profile_with_a_base_merges_sections_and_replaces_named_maps(repo: Path) -> None:
    assert use_profile.main(["small"]) == 0
    text = (repo / "params.yaml").read_text()
    expected = copy.deepcopy(WRITTEN) | {"runs": TWO_RUNS, "compare": TREE["compare"] | {"contrasts": None}}
    expected["train"]["epochs"], expected["data"]["world"]["train_clusters"] = 1, 5
    assert yaml.safe_load(text) == expected
    assert text.startswith("# Written by `python src/use_profile.py small`: A small world.\n")
    assert load_params("params.yaml").train.epochs == 1


COMMIT = "0" * 40
MARCO_HUB = {"id": "microsoft/ms_marco", "config": "v2.1", "revision": COMMIT}
BEYOND = {"source": "msmarco", "path": "data/raw", "hub": MARCO_HUB, "seed": 0, "candidates": 10}


@pytest.mark.parametrize(
    ("base", "at", "entry"),
    [
        ("msmarco_qwen3", "judge", {"kind": "rule"}),
        ("laptop", "beyond", BEYOND),
        ("laptop", "data/hub", {"id": "rajpurkar/squad", "revision": COMMIT}),
    ],
)
def test_one_alternative_keeps_nothing_of_another(
    base: str, at: str, entry: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(DEFAULT.parent, tmp_path / "profiles")
    monkeypatch.chdir(tmp_path)
    section, _, field = at.partition("/")
    changes = {"base": base, section: {field: entry} if field else entry}
    Path("profiles/mine.yaml").write_text(yaml.safe_dump(changes))
    wanted, found = (parse_yaml(use_profile.render(name), "a profile") for name in (base, "mine"))
    assert found == wanted | {section: wanted[section] | {field: entry} if field else entry}


def test_bases_chain_and_the_nearest_wins(repo: Path) -> None:
    (repo / "profiles" / "tiny.yaml").write_text("base: small\ntrain: {epochs: 2, seeds: [7]}\n")
    tree, chain = use_profile.resolve("tiny")
    assert chain == ("tiny", "small", "default")
    assert (tree["train"]["epochs"], tree["train"]["seeds"], list(tree["runs"])) == (2, [7], ["infonce", "kl"])
    assert tree["data"]["world"]["train_clusters"] == 5


def test_bases_in_a_circle_are_refused(repo: Path) -> None:
    (repo / "profiles" / "a.yaml").write_text("base: b\n")
    (repo / "profiles" / "b.yaml").write_text("base: a\n")
    with pytest.raises(ParamsError, match=r"profiles/b\.yaml: base: 'a' leads back"):
        use_profile.resolve("a")


def test_an_invalid_profile_leaves_params_as_they_were(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    use_profile.main(["default"])
    (repo / "profiles" / "bad.yaml").write_text("base: default\ntrain: {epoch: 1}\n")
    assert use_profile.main(["bad"]) == 2
    assert "profiles/bad.yaml over profiles/default.yaml: train.epoch: unknown key" in capsys.readouterr().err
    assert (repo / "params.yaml").read_bytes() == DEFAULT.read_bytes()


def test_check_tells_whether_params_are_the_profile(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert use_profile.main(["small", "--check"]) == 1  # no params.yaml yet
    use_profile.main(["small"])
    assert use_profile.main(["small", "--check"]) == 0
    capsys.readouterr()
    assert use_profile.main(["default", "--check"]) == 1
    assert "differs from profile default" in (err := capsys.readouterr().err) and "-  epochs: 1" in err


def test_profiles_are_listed_without_a_name(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert use_profile.main([]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^small +A small world\.$", out, re.MULTILINE) and "\n" in out.strip()
    assert not (repo / "params.yaml").exists()


def test_unknown_profiles_and_bases_name_the_nearest(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert use_profile.main(["defualt"]) == 2
    err = capsys.readouterr().err
    assert "Did you mean 'default'?" in err and "A small world." in err
    (repo / "profiles" / "lost.yaml").write_text("base: smal\n")
    assert use_profile.main(["lost"]) == 2
    assert "Did you mean 'small'?" in capsys.readouterr().err


def test_check_without_a_name_is_an_error(repo: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        use_profile.main(["--check"])
    assert caught.value.code == 2
