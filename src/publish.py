"""Publish a trained encoder or a dataset of soft labels on the Hugging Face Hub, with a card; list both.

    python src/publish.py list                                       # runs trained here, with their figures
    python src/publish.py list --owner me                            # and what `me` has published from this project
    python src/publish.py model kl --repo me/kl --dry-run            # shows what would be sent, contacts no hub
    python src/publish.py model kl --repo me/kl --license mit        # the first seed of run kl, private
    python src/publish.py dataset reader_a --repo me/soft-labels --public

A model is models/runs/<run>/seed<k>/, which sentence-transformers loads; a dataset is a soft label source in MS MARCO's
layout and as records (published_layout.py). Nothing is sent if, by dvc.lock, figures or files are older than what they
are about; --anyway sends them and the card says so. The token (HF_TOKEN, also from .env, or that of `hf auth login`)
must allow writing.
"""

import argparse
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bitter_retrieval.command_line import Parser, run_stage, track

# isort: split
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from rich.table import Table

from bitter_retrieval.lineage import stages
from bitter_retrieval.models.credentials import hub_token
from bitter_retrieval.params import Params, load_params
from bitter_retrieval.publishing.cards import Origin
from bitter_retrieval.publishing.dataset_card import dataset_card
from bitter_retrieval.publishing.hub_upload import PublishError, Upload, published, send
from bitter_retrieval.publishing.model_card import PASSAGES, model_card
from bitter_retrieval.publishing.provenance import commit, doubts, hashes, made_by
from bitter_retrieval.records import PREPARED, Row, read_labels, read_rows
from bitter_retrieval.reporting import wording
from bitter_retrieval.reporting.tables import console
from bitter_retrieval.tracking import read_lock
from bitter_retrieval.typed_yaml import read_yaml

PARAMS, REPORT = Path("params.yaml"), Path("metrics/report.json")
RUNS, LABELS, PREPARED_FOLDER = Path("models/runs"), Path("data/labels"), Path("data/prepared")
FIGURES = Path("data/figures/label")
SPLITS = ("train", "validation", "test")
CONFIGURATIONS = ("soft_labels", "records")  # of a dataset; the first is the default


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    {"model": model, "dataset": dataset, "list": listing}[options.what](options)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parts = parser.add_subparsers(dest="what", required=True)
    models = parts.add_parser(
        "model",
        help="a trained encoder, in the layout of sentence-transformers",
        epilog="example: python src/publish.py model kl --repo me/kl --dry-run",
    )
    models.add_argument("name", help="a run of params.yaml")
    models.add_argument("--seed", type=int, help="seed of the run, by default its first one (never chosen by figures)")
    datasets = parts.add_parser(
        "dataset",
        help="a soft label source, in MS MARCO's layout and as records",
        epilog="example: python src/publish.py dataset reader_a --repo me/soft-labels",
    )
    datasets.add_argument("name", help="a soft source in labels, derived_labels or mixed_labels of params.yaml")
    for part in (models, datasets):
        part.add_argument("--repo", type=repo_id, required=True, help="owner/name on the Hub; created if absent")
        part.add_argument("--public", action="store_true", help="visible to everybody; private by default")
        part.add_argument("--license", default="unknown", help="identifier as on the Hub, such as mit or cc-by-4.0")
        part.add_argument("--dry-run", action="store_true", help="show what would be sent, and contact no hub")
        part.add_argument("--anyway", action="store_true", help="send it although figures may not belong to it")
    lists = parts.add_parser(
        "list", help="runs trained here with their figures", epilog="example: python src/publish.py list --owner me"
    )
    lists.add_argument("--owner", help="also list what this owner has published from this project on the Hub")
    return parser.parse_args(arguments)


def repo_id(text: str) -> str:
    try:
        validate_repo_id(text)
    except HFValidationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if text.count("/") != 1:
        raise argparse.ArgumentTypeError(f"write owner/name, got {text!r}")
    return text


# -- a trained encoder -----------------------------------------------------------------------------------------------


def model(options: argparse.Namespace) -> None:
    params = load_params()
    run = known(options.name, "runs", params.runs)
    seed = (params.runs[run].seeds or params.train.seeds)[0] if options.seed is None else options.seed
    folder, report = RUNS / run / f"seed{seed}", read_json(REPORT)
    if not (folder / "modules.json").is_file():
        raise PublishError(f"{folder}: no checkpoint here. Run `dvc repro train@{run}`, or `dvc pull {RUNS / run}`.")
    after, sections = [f"evaluate@{run}", "compare"], ("beyond", "train", "evaluate")
    origin = origin_of(params, RUNS / run, after, sections, options.license)
    if run not in report.get("systems", {}):
        origin = replace(origin, doubts=[*origin.doubts, f"{REPORT} has no figures of {run}"])
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    with tempfile.TemporaryDirectory() as scratch:
        passages = passage_encoder(folder, Path(scratch))
        card = model_card(options.repo, run, seed, report, origin, query_only=bool(passages))
        publish(f"run {run}, seed {seed}", {**files, **passages}, card.encode(), origin, options)


def passage_encoder(folder: Path, scratch: Path) -> dict[str, Path | bytes]:
    """Files of the passages' encoder, to which the checkpoint points if only queries were trained; else none."""
    from bitter_retrieval.encoders.encoder import PASSAGE_ENCODER, load_encoder

    if not (folder / PASSAGE_ENCODER).is_file():
        return {}
    load_encoder(folder).passages.save(scratch / PASSAGES)
    pointer = json.dumps({"encoder": PASSAGES}, indent=2).encode() + b"\n"
    files = {path.relative_to(scratch).as_posix(): path for path in scratch.rglob("*") if path.is_file()}
    return {**files, PASSAGE_ENCODER: pointer}


# -- a dataset of soft labels ----------------------------------------------------------------------------------------


def dataset(options: argparse.Namespace) -> None:
    params = load_params()
    source = known(options.name, "labels, derived_labels or mixed_labels", params.sources)
    if params.sources[source].kind == "mined":
        raise PublishError(
            f"labels {source}: those of {params.sources[source].needs} with negatives. Publish that source."
        )
    labels = {split: soft_labels(source, split) for split in SPLITS if (LABELS / source / f"{split}.parquet").is_file()}
    if not labels:
        raise PublishError(f"{LABELS / source}: no labels here. Run `dvc repro`, or `dvc pull {LABELS / source}`.")
    origin = origin_of(params, LABELS / source, [], ("label",), options.license)
    counted = read_json(FIGURES / f"{source}.json")
    if not counted:
        raise PublishError(f"{FIGURES / source}.json: no figures here. Run `dvc repro`, or `dvc pull {FIGURES}`.")
    with tempfile.TemporaryDirectory() as folder:
        files = write_tables(source, labels, Path(folder))
        card = dataset_card(options.repo, source, files, counted, origin)
        tables = {path: Path(folder) / path for paths in files.values() for path in paths.values()}
        publish(f"soft labels of {source}", tables, card.encode(), origin, options)


def soft_labels(source: str, split: str) -> list[Row]:
    labels, soft = read_labels(LABELS / source / f"{split}.parquet")
    if not soft:
        raise PublishError(f"labels {source}: binary labels, not soft ones. Publish a source with answer losses.")
    return labels


def write_tables(source: str, labels: Mapping[str, list[Row]], folder: Path) -> dict[str, dict[str, str]]:
    """Write both configurations; returns paths in `folder` by configuration and split."""
    from datasets import Dataset

    from bitter_retrieval.publishing.published_layout import published_tables, whole_ids

    rows = {split: read_rows(PREPARED_FOLDER / f"{split}.parquet", PREPARED) for split in labels}
    whole = all(whole_ids(of_split) for of_split in rows.values())
    files: dict[str, dict[str, str]] = {name: {} for name in CONFIGURATIONS}
    for split in track(labels, f"write {source}", unit="splits"):
        tables = published_tables(rows[split], labels[split], source, whole)
        for name, table in zip(CONFIGURATIONS, tables, strict=True):
            files[name][split] = f"{name}/{split}.parquet"
            (folder / name).mkdir(exist_ok=True)
            Dataset(table).to_parquet(folder / files[name][split])
    return files


# -- what both do ----------------------------------------------------------------------------------------------------


def known(name: str, section: str, names: Iterable[str]) -> str:
    if name not in names:
        raise PublishError(f"params.yaml: {section}: {name!r} is none of {', '.join(names)}.")
    return name


def origin_of(params: Params, made: Path, after: Sequence[str], sections: Sequence[str], licence: str) -> Origin:
    """Where the content of a path comes from. after: later stages whose results go with it."""
    tree, lock = read_yaml(PARAMS), read_lock()
    settings = made_by(made.as_posix(), params, tree)
    told = ["prepare", *stages(made.as_posix(), params), *after]
    whole = {section: tree[section] for section in sections if tree.get(section)}
    return Origin(
        commit=commit(),
        settings={"data": tree["data"], **settings, **whole},
        hashes=hashes(told, lock),
        doubts=[said for of_stage in doubts(told, lock, tree).values() for said in of_stage],
        licence=licence,
    )


def publish(
    what: str, files: Mapping[str, Path | bytes], card: bytes, origin: Origin, options: argparse.Namespace
) -> None:
    """Show what is sent, and send it unless --dry-run is given."""
    upload = Upload(
        options.what, options.repo, options.public, f"{what}, commit {origin.commit}", {**files, "README.md": card}
    )
    screen = console()
    screen.print(f"{upload.kind} {upload.repo} ({upload.visibility}): {upload.message}", soft_wrap=True)
    screen.print(contents(upload))
    for doubt in origin.doubts:
        screen.print(f"Doubt: {doubt}.", soft_wrap=True)
    if options.dry_run:
        screen.print(f"Nothing was sent (--dry-run). README.md:\n\n{card.decode()}", soft_wrap=True)
        return
    if origin.doubts and not options.anyway:
        raise PublishError(
            "nothing was sent: figures and files do not belong together. Run `dvc repro` (`dvc pull` for absent files) "
            "and publish again; --anyway sends them as they are, and the card says so."
        )
    sent = send(upload, hub_token())
    for name in sent.removed:
        screen.print(f"Removed from the repo: {name}", soft_wrap=True)
    screen.print(f"Sent: {sent.url}\nrevision: {sent.revision}", soft_wrap=True)


def contents(upload: Upload) -> Table:
    table = Table()
    table.add_column("file", overflow="fold")
    table.add_column("bytes", justify="right")
    sizes = {name: len(one) if isinstance(one, bytes) else one.stat().st_size for name, one in upload.files.items()}
    for name, size in sizes.items():
        table.add_row(name, f"{size:,}")
    table.add_section()
    table.add_row(f"{len(sizes)} files", f"{sum(sizes.values()):,}")
    return table


def read_json(path: Path) -> dict[str, Any]:
    """Empty if the file is absent."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


# -- the list --------------------------------------------------------------------------------------------------------


def listing(options: argparse.Namespace) -> None:
    screen, params = console(), load_params()
    folders = {folder.name: folder for folder in sorted(RUNS.glob("[!.]*"))}
    old = old_figures(params, [name for name in folders if name in params.runs])
    screen.print(local_runs(folders, params, read_json(REPORT), old))
    for said in dict.fromkeys(said for of_run in old.values() for said in of_run):
        screen.print(f"Doubt: {said}.", soft_wrap=True)
    if options.owner:
        screen.print(on_the_hub(options.owner))


def old_figures(params: Params, runs: Sequence[str]) -> dict[str, list[str]]:
    """By run, why its figures may belong to another checkpoint."""
    tree, lock = read_yaml(PARAMS), read_lock()
    told = {run: [*stages(f"{RUNS}/{run}", params), f"evaluate@{run}", "compare"] for run in runs}
    found = doubts([stage for of_run in told.values() for stage in of_run], lock, tree)
    return {run: [said for stage in of_run for said in found.get(stage, [])] for run, of_run in told.items()}


def local_runs(
    folders: Mapping[str, Path], params: Params, report: Mapping[str, Any], old: Mapping[str, Sequence[str]]
) -> Table:
    """A row a local run: the primary reader's exact match, and whether the figures are about this checkpoint."""
    about = report.get("about", {"reader": "no reader", "baseline": "the baseline"})
    table = Table(title=f"{RUNS}: exact match, {about['reader']} answers, %", title_justify="left")
    for head in ("run", "seeds", "labels", "losses", "EM", f"against {about['baseline']}", "verdict", "figures"):
        table.add_column(head, overflow="fold", no_wrap=head == "run")
    for name, folder in folders.items():
        seeds = ", ".join(sorted(seed.name.removeprefix("seed") for seed in folder.glob("seed*")))
        if name not in params.runs:
            table.add_row(name, seeds, *[wording.NOTHING] * 5, "not in params.yaml")
            continue
        run = params.runs[name]
        losses = ", ".join(f"{loss} {weight:g}" for loss, weight in run.losses.items())
        state = "in doubt" if old[name] else "up to date"
        table.add_row(name, seeds, run.labels, losses, *figures(name, report), state)
    return table


def figures(run: str, report: Mapping[str, Any]) -> list[str]:
    """Exact match, difference to the baseline and verdict."""
    if run not in report.get("systems", {}):
        return [wording.NOTHING] * 3
    reader = report["about"]["reader"]
    difference = report["differences"][reader]["em"].get(run)
    verdict = difference["verdict"] if difference else wording.NOTHING
    return [wording.share(report["systems"][run]["scores"][reader]["em"]), wording.points(difference), verdict]


def on_the_hub(owner: str) -> Table:
    table = Table("kind", "repo", "visibility", title=f"Published by {owner}", title_justify="left")
    for found in published(owner, hub_token()):
        table.add_row(found.kind, found.repo, "public" if found.public else "private")
    return table


if __name__ == "__main__":
    run_stage(main)
