"""The tables that compare prints from its report. Narrow terminals get the same columns in several tables.

Answers of reader_a: mean ±half a 95% interval, % (NLL: nats a token)
system      labels      EM         F1         accuracy   NLL         retrieval   success
infonce     human       54.9 ±3.1  57.0 ±3.0  54.9 ±3.1  2.10 ±0.15  61.2 ±2.9   60.4 ±3.0
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from io import StringIO
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from bitter_retrieval.reporting import wording
from bitter_retrieval.statistics.metrics import METRICS, Metric, of_family

WIDE = 112  # columns from which all metrics fit side by side
STYLES = {"better": "green", "worse": "red", "equivalent": "cyan", "inconclusive": "yellow"}
Report = Mapping[str, Any]


def console(**settings: Any) -> Console:
    """A console as wide as the terminal; without a terminal, wide enough for whole tables."""
    settings = {"markup": False, "highlight": False} | settings
    found = Console(**settings)
    wide: dict[str, Any] = {"width": WIDE}
    return found if found.is_terminal else Console(**wide | settings)


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, as wide as its cells. Bars in cells are escaped, line breaks become spaces."""
    table = Table(box=box.MARKDOWN)
    for head in heads:
        table.add_column(Text(head), no_wrap=True)
    for row in rows:
        table.add_row(*(Text(" ".join(cell.split("\n")).replace("|", "\\|")) for cell in row))
    whole = Console(width=_width(table), color_system=None, file=StringIO())
    with whole.capture() as shown:
        whole.print(table)
    lines = shown.get().splitlines()  # the first and the last are empty
    return "\n".join(line for line in lines if line.strip())


def everything(report: Report, width: int) -> Iterator[RenderableType]:
    """All tables and notes in reading order, for a console `width` columns wide."""
    yield from scores(report, width)
    yield from beyond(report, width)
    yield differences(report, width)
    yield from (Text(f"{warning}\n", style="bold") for warning in wording.warnings(report))
    yield from secondary(report, width)
    yield from (further(report, shown, width) for shown in report["further"])
    yield from readers(report, width)
    yield disagreement(report)
    yield from (Text(note) for note in wording.notes(report))


def scores(report: Report, width: int) -> list[RenderableType]:
    """Every system with the main metrics of the primary reader."""
    main = of_family("answer", "passage")
    title = f"Answers of {report['about']['reader']}: mean ±half a 95% interval, {wording.units(main)}"
    return _parts(title, report, main, width)


def beyond(report: Report, width: int) -> list[RenderableType]:
    """The systems that answer questions from another domain, if any; a narrow console gets no labels."""
    if not report["beyond"]:
        return []
    metrics = wording.beyond_metrics(report)
    tables = _fitting(metrics, lambda part: _beyond(report, part, width >= WIDE), width)
    return [_titled(wording.beyond(report) + " (secondary)", *tables)]


def _beyond(report: Report, metrics: Sequence[Metric], labels: bool) -> Table:
    table = _table(*["system", "labels"][: 1 + labels])
    for metric in metrics:
        table.add_column(metric.column, justify="right", no_wrap=True)
        table.add_column("to untrained", justify="right", no_wrap=True)
    for name in report["beyond"]["systems"]:
        cells = [cell for pair in wording.beyond_cells(report, name, metrics) for cell in pair]
        if set(cells) != {wording.NOTHING}:
            _add(table, report, name, cells, labels=labels)
    return table


def secondary(report: Report, width: int) -> list[RenderableType]:
    """Rankings against the annotators' labels, and shown passages against the best candidate and none."""
    about, ranking, utility = report["about"], of_family("ranking"), of_family("utility")
    rankings = f"Rankings of {about['corpus']} passages by the labels of {about['human_source']}"
    shown = (
        f"Passages shown to {about['reader']} against the best candidate (regret, also by the labeller's losses) and "
        "against no passage (harm)"
    )
    return [
        *_parts(f"{rankings}, {wording.units(ranking)} (secondary)", report, ranking, width),
        *_parts(f"{shown}, {wording.units(utility)} (secondary)", report, utility, width),
    ]


def _parts(title: str, report: Report, metrics: Sequence[Metric], width: int) -> list[RenderableType]:
    return [_titled(title, table) for table in _fitting(metrics, lambda part: _scores(report, part), width)]


def _fitting(columns: Sequence[Any], table_of: Callable[[Sequence[Any]], Table], width: int) -> list[Table]:
    """One table of all columns, or as few tables of about equal size as fit the console."""
    for size in sorted({-(-len(columns) // parts) for parts in range(1, len(columns) + 1)}, reverse=True):
        tables = [table_of(columns[at : at + size]) for at in range(0, len(columns), size)]
        if all(_width(table) <= width for table in tables):
            break
    return tables


def _width(table: Table) -> int:
    endless = Console(width=10_000)
    return Measurement.get(endless, endless.options, table).maximum


def _scores(report: Report, metrics: Sequence[Metric]) -> Table:
    """The systems with these metrics of the primary reader; systems without any are left out."""
    reader = report["about"]["reader"]
    table = _table("system", "labels")
    for metric in metrics:
        table.add_column(metric.column, justify="right", no_wrap=True)
    for name, system in report["systems"].items():
        of_reader = system["scores"].get(reader, {})
        if any(of_reader.get(metric.name) for metric in metrics):
            _add(table, report, name, [wording.figure(metric, of_reader.get(metric.name)) for metric in metrics])
    return table


def further(report: Report, shown: str | int, width: int) -> RenderableType:
    """Systems that retrieve, with another number of passages shown; a narrow console gets fewer columns."""
    about, found = report["about"], report["further"][shown]
    wide, em, harm = width >= WIDE, METRICS["em"], METRICS["harm"]
    heads = [em.column, "difference", "verdict", *["adjusted p", harm.column] * wide]
    table = _table(*["system", "labels"][: 1 + wide])
    for head in heads:
        table.add_column(head, justify="left" if head == "verdict" else "right", no_wrap=True)
    for name, system in found["systems"].items():
        scores = system["scores"].get(about["reader"], {})
        difference = found["differences"][about["reader"]]["em"].get(name)
        cells: list[RenderableType] = [wording.figure(em, scores.get("em")), wording.points(difference)]
        cells.append(_verdict(difference))
        if wide:
            cells.append(wording.probability(difference and difference["p_adjusted"]))
            cells.append(wording.figure(harm, scores.get("harm")))
        _add(table, report, name, cells, labels=wide)
    title = f"{shown} passages shown to {about['reader']}: exact match, and against {about['baseline']} (secondary)"
    return _titled(title, table)


def _verdict(difference: Mapping[str, Any] | None) -> Text:
    verdict = difference["verdict"] if difference else wording.NOTHING
    return Text(verdict, style=STYLES.get(verdict, ""))


def _add(table: Table, report: Report, name: str, cells: Sequence[RenderableType], labels: bool = True) -> None:
    """Add a row with the system's name and labels. A gap divides runs and controls; the primary run is bold."""
    names, system = list(report["systems"]), report["systems"][name]
    after = names[names.index(name) + 1 :][:1]
    ends = any(report["systems"][other]["kind"] != system["kind"] for other in after)
    style = "bold" if name == report["about"]["primary"] else None
    head = [name, system["labels"] or wording.NOTHING][: 1 + labels]
    table.add_row(*head, *cells, style=style, end_section=ends)


def differences(report: Report, width: int) -> RenderableType:
    """Each run against the baseline in exact match, with its verdict; a narrow console gets no labels and seed sd."""
    about = report["about"]
    found, primary, wide = report["differences"][about["reader"]]["em"], about["primary"], width >= WIDE
    table = _table(*["run", "labels"][: 1 + wide])
    for head in ["difference", "adjusted p", "verdict", "MDE", "seed sd"][: 4 + wide]:
        table.add_column(head, justify="left" if head == "verdict" else "right", no_wrap=True)
    for name, difference in found.items():
        _add(table, report, name, _judged(difference)[: 4 + wide], labels=wide)
    title = (
        f"Exact match against {about['baseline']}, paired by seed and question, points; 95% intervals for all at once"
    )
    said = wording.sentence(primary, about["baseline"], found.get(primary)) if primary else ""
    return _titled(title, table, *([Text(f"Primary figure: {said} Other rows are secondary.\n")] if said else []))


def _judged(difference: Mapping[str, Any]) -> list[RenderableType]:
    return [
        wording.points(difference),
        wording.probability(difference["p_adjusted"]),
        _verdict(difference),
        wording.size(difference["mde"]),
        wording.size(difference["seed_sd"]),
    ]


def readers(report: Report, width: int) -> list[RenderableType]:
    """Exact match of every system by reader and passages shown, with the runs' differences to the baseline."""
    about = report["about"]
    title = "Exact match by reader, {} shown, %, and difference to {}, points (secondary)"
    return [
        _titled(title.format(shown, about["baseline"]), table)
        for shown, found in wording.readings(report).items()
        for table in _fitting(about["readers"], partial(_readers, report, found), width)
    ]


def _readers(report: Report, found: Report, names: Sequence[str]) -> Table:
    table = _table("system", "labels")
    for reader in names:
        table.add_column(reader, justify="right", no_wrap=True)
        table.add_column("difference", justify="right", no_wrap=True)
    for name in found["systems"]:
        baseline = name == report["about"]["baseline"]
        _add(table, report, name, [cell for reader in names for cell in _reader_cells(found, name, reader, baseline)])
    return table


def _reader_cells(found: Report, name: str, reader: str, baseline: bool) -> list[str]:
    estimate = found["systems"][name]["scores"].get(reader, {}).get("em")
    difference = found["differences"][reader]["em"].get(name)
    return [wording.share(estimate), "baseline" if baseline else wording.points(difference)]


def disagreement(report: Report) -> RenderableType:
    """How often annotators and soft labels choose different passages, and which of them is wrong."""
    about, splits = report["about"], report["disagreement"]
    table = _table("")
    for name in splits:
        table.add_column(name, justify="right")
    for words, values in wording.disagreement_rows(splits):
        table.add_row(words, *values)
    labels, soft = about["human_source"], about["label_source"]
    return _titled(f"Disagreement of {labels} labels and lowest loss of {soft}, % of questions", table)


def _table(*heads: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in heads:
        table.add_column(head, overflow="fold")
    return table


def _titled(title: str, *below: RenderableType) -> Group:
    return Group(Text(title, style="bold"), *below)
