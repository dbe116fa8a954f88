"""The top of the page, which is read in a minute: the answer in a sentence, the rows that matter, and names.

answer(report)      "Better: infonce_a (trained on the labels reader_a) answers more questions exactly than …"
meaning(report)     "Of 1,000 questions like these it answers 14 more (4 to 25); infonce_human answers 653."
scope(report)       "It holds for other test questions of this kind …"
rows(report)        ["infonce_human", "infonce_a", "kl_a", "kl_flat", "oracle", "untrained"]
"""

from collections.abc import Mapping
from typing import Any

from bitter_retrieval.reporting import wording

Report = Mapping[str, Any]
ROWS = 6
LOSSES = {  # by name in training's table of losses, which a test compares
    "infonce": "a contrastive loss: the relevant passage must be nearer to the question than all others of the batch",
    "infonce_soft": "the same contrast, with the candidate of lowest answer loss as the relevant passage",
    "kl": "the retriever matches the distribution over a question's passages that their answer losses give (KL "
    "divergence)",
    "mse": "similarity regresses on how much a passage helps",
    "mse_minmax": "similarity regresses on the losses, stretched to 0 to 1 within the question",
    "margin": "the best candidate stays ahead of worse ones by as much as they help less",
    "margin_mse": "the lead of the best candidate regresses on how much more it helps",
    "stable_kd": "each candidate is contrasted with those ranked below it, weighted by the labeller",
    "utility_infonce": "useful candidates are contrasted with the others, to the extent that these do not help",
    "marginal_likelihood": "the candidates that help by half of full utility get a high summed likelihood",
}


def answer(report: Report) -> str:
    """The primary difference in words, with its interval and verdict."""
    about, found = report["about"], wording.primary(report).get("em")
    run, baseline = (_trained(report, about[name]) for name in ("primary", "baseline"))
    if found is None:
        return f"{run} and {baseline} cannot be compared: no question has an answer of both."
    said = {
        "better": f"Better: {run} answers more questions exactly than {baseline}",
        "worse": f"Worse: {run} answers fewer questions exactly than {baseline}",
        "equivalent": f"Equivalent: {run} and {baseline} answer equally many questions exactly, to within "
        f"{100 * about['equivalence']:g} points",
        "inconclusive": f"Open: it is not shown which answers more questions exactly, {run} or {baseline}",
    }[found["verdict"]]
    return f"{said}: {wording.points(found)} points{' (95% interval)' if found['low'] is not None else ''}."


def _trained(report: Report, name: str) -> str:
    return f"{name} (trained on the labels {report['systems'][name]['labels']})"


def meaning(report: Report) -> str:
    """What the primary difference means for a reader of the page; "" if there is none."""
    about, found = report["about"], wording.primary(report).get("em")
    if found is None:
        return ""
    if found["verdict"] == "equivalent":
        return f"Differences of more than {100 * about['equivalence']:g} points, either way, are ruled out."
    if found["verdict"] == "inconclusive":
        finds = f"a difference of {wording.size(found['mde'])} points would be found in 80% of experiments like this"
        return f"That is not the same as no difference{': ' + finds if (found['mde'] or 1) < 1 else ''}."
    far, near = sorted((found["low"], found["high"]), key=abs, reverse=True)
    told = f"{_in_thousand(found['mean'])} {'more' if found['mean'] > 0 else 'fewer'}"
    span = f"{_in_thousand(near)} to {_in_thousand(far)}"
    before = report["systems"][about["baseline"]]["scores"][about["reader"]]["em"]["mean"]
    beside = f"{about['baseline']} answers {_in_thousand(before)}"
    return f"Of 1,000 questions like these it answers {told} ({span}); {beside}."


def _in_thousand(share: float) -> str:
    return f"{min(1000, abs(1000 * share)):.0f}"


def scope(report: Report) -> str:
    """What the primary difference holds for, and what not."""
    about = report["about"]
    again = f"other training seeds ({about['seeds']} a run)" if about["seeds"] > 1 else "not for training again"
    kind = f"other {about['split']} questions of this kind ({about['origin']}; {about['questions']} asked)"
    how = f"when {about['reader']} answers from the top {about['shown'][0]} of {about['corpus']} passages"
    return f"It holds for {kind} and {again}, {how}. It says nothing of other data, readers or encoders."


def rows(report: Report) -> list[str]:
    """The systems to look at first: the primary run and its baseline, and what bounds them. ROWS at most."""
    about, systems = report["about"], report["systems"]
    chosen = [about["baseline"], about["primary"], *(run for pair in about["contrasts"].values() for run in pair)]
    start = systems[about["primary"]]["encoder"]
    untrained = [name for name, one in systems.items() if one["kind"] == "control" and one["encoder"] == start]
    bounds = [*list(report["negative_controls"])[:1], *[name for name in ("oracle",) if name in systems], *untrained]
    runs = list(dict.fromkeys(name for name in chosen if name not in bounds))
    return [*runs[: ROWS - len(bounds)], *bounds]


def described(report: Report, name: str) -> str:
    """What a system is, in a phrase."""
    about, system = report["about"], report["systems"][name]
    if system["kind"] == "control":
        return system["about"]
    role = {about["baseline"]: "baseline", about["primary"]: "primary run"}.get(name)
    return f"{role + ': ' if role else ''}trained with {system['about']} on the labels {system['labels']}"


def names(report: Report, losses: Mapping[str, Mapping[str, float]], sources: Mapping[str, str]) -> dict[str, str]:
    """Sentences on the losses and label sources of the runs. losses: weights by run; sources: what each source is."""
    used = dict.fromkeys(loss for weights in losses.values() for loss in weights)
    labels = dict.fromkeys(one["labels"] for one in report["systems"].values() if one["labels"])
    known = {f"loss {loss}": LOSSES[loss] for loss in used if loss in LOSSES}
    return known | {f"labels {name}": sources[name] for name in labels if name in sources}
