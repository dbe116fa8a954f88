"""What labels, models and runs are made from, according to params.

    made_from("models/runs/kl", params)   ["data/labels/reader_a", "models/encoders/mini"]
    entries("models/runs/kl", params)     [("runs", "kl"), ("labels", "reader_a"), ("readers", "reader_a"), …]
    stages("models/runs/kl", params)      ["train@kl", "label@reader_a", "reader@reader_a", "encoder@mini"]
    is_negative_control("flat", params)   True

A path is data/labels/<source>, models/readers/<reader>, models/encoders/<encoder> or models/runs/<run>.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bitter_retrieval.labels.settings import (
    AlteredLabels,
    AnyDerivedLabels,
    AnyLabels,
    AnyMixedLabels,
    CorruptedLabels,
    FlatLabels,
    MinedNegatives,
    MixedSource,
    PermutedLabels,
    PublishedLabels,
    ReaderLabels,
)

if TYPE_CHECKING:  # params.py imports this module to find circles
    from bitter_retrieval.params import Params

AnySource = AnyLabels | AnyDerivedLabels | AnyMixedLabels
LABELS, ENCODERS = "data/labels", "models/encoders"
SOURCES = ("labels", "derived_labels", "mixed_labels")
SECTIONS = {"models/runs": "runs", "models/readers": "readers", ENCODERS: "encoders"}
STAGES = {"runs": "train", "readers": "reader", "encoders": "encoder"}
STAGES |= {"labels": "label", "derived_labels": "derive", "mixed_labels": "mix"}


def made_from(path: str, params: "Params") -> list[str]:
    """The paths that the stage of `path` needs, as params name them: labels or reader first, then the encoder."""
    section, name = _entry(path, params) or ("", "")
    if section == "runs":
        return [f"{LABELS}/{params.runs[name].labels}", f"{ENCODERS}/{params.runs[name].encoder}"]
    if section == "derived_labels":
        return [params.derived_labels[name].needs, params.derived_labels[name].encoder]
    if section == "mixed_labels":
        return [params.mixed_labels[name].needs, params.mixed_labels[name].human]
    return [params.labels[name].needs] if section == "labels" else []


def _entry(path: str, params: "Params") -> tuple[str, str] | None:
    """Section of params and name in it; None for any other path."""
    folder, _, name = path.rpartition("/")
    if folder == LABELS:
        return next(((part, name) for part in SOURCES if name in getattr(params, part)), None)
    return (SECTIONS[folder], name) if folder in SECTIONS else None


def entries(path: str, params: "Params") -> list[tuple[str, str]]:
    """Section and name in params of `path` and of all that it is made from, its own first."""
    own = _entry(path, params)
    above = [entry for part in made_from(path, params) for entry in entries(part, params)]
    return list(dict.fromkeys([*([own] if own else []), *above]))


def stages(path: str, params: "Params") -> list[str]:
    """The stages that make `path` and all that it is made from, except prepare; its own first."""
    return [f"{STAGES[section]}@{name}" for section, name in entries(path, params)]


def circle(path: str, params: "Params", above: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The paths through which `path` is made from itself; () if it is not."""
    if path in above:
        return (*above[above.index(path) :], path)
    return next(filter(None, (circle(part, params, (*above, path)) for part in made_from(path, params))), ())


# -- label sources by name -------------------------------------------------------------------------------------------


def _labels(source: str, params: "Params") -> Iterator[AnySource]:
    """A source, the one whose labels it needs, and so on; of mixed ones, the soft side."""
    labels = params.sources[source]
    yield labels
    folder, _, needed = labels.needs.rpartition("/")
    if folder == LABELS and needed in params.sources:
        yield from _labels(needed, params)


def origin(source: str, params: "Params") -> AnySource:
    """The source of the labels: followed through mining, altering and mixing, otherwise `source` itself."""
    made_of_another = MinedNegatives | AlteredLabels | CorruptedLabels | MixedSource
    return next(one for one in _labels(source, params) if not isinstance(one, made_of_another))


def people(source: str, params: "Params") -> AnySource:
    """The origin of a mixed source's binary labels; of any other source, its own origin."""
    labels = params.sources[source]
    return origin(labels.human.rpartition("/")[2] if isinstance(labels, MixedSource) else source, params)


def is_soft(source: str, params: "Params") -> bool:
    """Whether a source gives answer losses; a mined one is as soft as the source it needs."""
    return origin(source, params).soft


def is_negative_control(source: str, params: "Params") -> bool:
    """Whether labels of a source, or of one it is derived from, say nothing of which of a question's passages helps."""
    return any(isinstance(one, PermutedLabels | FlatLabels) for one in _labels(source, params))


def labeller(source: str, params: "Params") -> str | None:
    """The reader whose own answer losses a source of `labels` holds; None if there is none or it is unknown."""
    labels = params.labels[source]
    if isinstance(labels, PublishedLabels):
        return labels.reader
    return labels.needs.rpartition("/")[2] if isinstance(labels, ReaderLabels) else None


def losses_of(reader: str, params: "Params") -> str | None:
    """The source of `labels` that holds a reader's own answer losses; own labelling takes precedence over published."""
    found = [name for name in params.labels if labeller(name, params) == reader]
    return next(iter(sorted(found, key=lambda name: not isinstance(params.labels[name], ReaderLabels))), None)
