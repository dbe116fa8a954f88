"""The tables that compare prints from its report. Narrow terminals get the same columns in several tables.

Answers of reader_a: mean ±half a 95% interval, % (NLL: nats a token)
system      labels      EM         F1         NLL         retrieval   success
infonce     human       54.9 ±3.1  57.0 ±3.0  2.10 ±0.15  61.2 ±2.9   60.4 ±3.0
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from io import StringIO
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from bitter_retrieval.plain_text import PlainConsole, plain
from bitter_retrieval.reporting import wording
from bitter_retrieval.statistics.metrics import METRICS, Metric, of_family

ALL_AT_ONCE = "95% intervals and p hold for all at once"
WIDE = 112  # columns from which all metrics fit side by side
STYLES = {"better": "green", "worse": "red", "equivalent": "cyan", "inconclusive": "yellow"}
Report = Mapping[str, Any]


def console(**settings: Any) -> Console:
    """A console as wide as the terminal; without a terminal, wide enough for whole tables."""
    found = PlainConsole(**settings)
    wide: dict[str, Any] = {"width": WIDE}
    return found if found.is_terminal else PlainConsole(**wide | settings)


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, as wide as its cells. Bars and tags in cells are escaped, line breaks become spaces."""
    table = Table(box=box.MARKDOWN)
    for head in heads:
        table.add_column(Text(head), no_wrap=True)
    for row in rows:
        table.add_row(*(Text(_cell(cell)) for cell in row))
    whole = PlainConsole(width=_width(table), color_system=None, file=StringIO())
    with whole.capture() as shown:
        whole.print(table)
    lines = shown.get().splitlines()  # the first and the last are empty
    return "\n".join(line for line in lines if line.strip())


def _cell(text: str) -> str:
    line = " ".join(plain(text).splitlines()).replace("|", "\\|")
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", line)


def everything(report: Report, width: int) -> Iterator[RenderableType]:
    """All tables and notes in reading order, for a console `width` columns wide."""
    yield from (Text(f"{warning}\n", style="bold") for warning in wording.warnings(report))
    yield from differences(report, width)
    yield from (Text(f"{check}\n") for check in wording.checks(report))
    yield from scores(report, width)
    yield from beyond(report, width)
    yield from secondary(report, width)
    yield from (further(report, shown, width) for shown in report["further"])
    yield from readers(report, width)
    yield disagreement(report)
    yield from (Text(note) for note in wording.notes(report))


def scores(report: Report, width: int) -> list[RenderableType]:
    """Every system with the main metrics of the primary reader."""
    main = wording.distinct(report, of_family("answer", "passage"))
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
    endless = PlainConsole(width=10_000)
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
    """Systems that retrieve, with another number of passages shown; a narrow console gets no labels."""
    about, harm = report["about"], METRICS["harm"]
    heads = [METRICS["em"].column, "difference", "p", "verdict", "MDE", harm.column]
    tables = _fitting(heads, lambda part: _further(report, report["further"][shown], part, width >= WIDE), width)
    title = f"{shown} passages shown to {about['reader']}: exact match, and against {about['baseline']} (secondary)"
    return _titled(title, *tables)


def _further(report: Report, found: Report, heads: Sequence[str], labels: bool) -> Table:
    reader, em, harm = report["about"]["reader"], METRICS["em"], METRICS["harm"]
    table = _table(*["system", "labels"][: 1 + labels])
    for head in heads:
        table.add_column(head, justify="left" if head == "verdict" else "right", no_wrap=True)
    for name, system in found["systems"].items():
        scores = system["scores"].get(reader, {})
        difference = found["differences"][reader]["em"].get(name)
        cells: dict[str, RenderableType] = {
            em.column: wording.figure(em, scores.get("em")),
            "difference": wording.points(difference),
            "p": wording.probability(difference and difference["p"]),
            "verdict": _verdict(difference),
            "MDE": wording.size(difference and difference["mde"]),
            harm.column: wording.figure(harm, scores.get("harm")),
        }
        _add(table, report, name, [cells[head] for head in heads], labels=labels)
    return table


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


def differences(report: Report, width: int) -> Iterator[RenderableType]:
    """The primary difference, then the named contrasts, then each run against the baseline, in exact match."""
    about, reader, baseline = report["about"], report["about"]["reader"], report["about"]["baseline"]
    against, wide = report["differences"][reader]["em"], width >= WIDE
    found = {METRICS[metric].head: one for metric, one in wording.primary(report).items()}
    said = Text(wording.sentence(about["primary"], baseline, against.get(about["primary"])) + "\n")
    title = f"Primary: {about['primary']} minus {baseline}, {reader} answers from {about['shown'][0]} shown, points"
    yield _titled(title, *([_pairs("", found, wide)] if found else []), Text("Primary figure: ").append_text(said))
    if chosen := wording.contrasts(report, "em"):
        yield _titled(f"Contrasts in exact match, points (secondary; {ALL_AT_ONCE})", _pairs("contrast", chosen, wide))
    table = _judged_table(["run", "labels"][: 1 + wide], wide)
    for name, difference in against.items():
        _add(table, report, name, _judged(difference, wide), labels=wide)
    yield _titled(f"Exact match against {baseline}, points (secondary but for the primary run; {ALL_AT_ONCE})", table)


def _pairs(head: str, found: Mapping[str, Mapping[str, Any]], wide: bool) -> Table:
    table = _judged_table([head], wide)
    for name, difference in found.items():
        table.add_row(name, *_judged(difference, wide))
    return table


def _judged_table(heads: Sequence[str], wide: bool) -> Table:
    table = _table(*heads)
    for head in ["difference", "p", "verdict", "MDE", "seed sd"][: 4 + wide]:
        table.add_column(head, justify="left" if head == "verdict" else "right", no_wrap=True)
    return table


def _judged(difference: Mapping[str, Any], wide: bool) -> list[RenderableType]:
    """Cells of a difference; a narrow console gets no seed sd."""
    cells: list[RenderableType] = [wording.points(difference), wording.probability(difference["p"])]
    cells += [_verdict(difference), wording.size(difference["mde"]), wording.size(difference["seed_sd"])]
    return cells[: 4 + wide]


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
