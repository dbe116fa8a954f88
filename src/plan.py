"""What does a profile cost? Tokens, FLOPs, hours and money by stage, memory and disk, before anything is computed.

    python src/plan.py msmarco_qwen3 --machine H200 --price-per-hour 3     # as fast as benchmarks/results/ has it
    python src/plan.py nq_smollm2 --flops 2e11                             # a machine that nothing was measured on
    python src/plan.py --rates                                             # the measured rates of benchmarks/README.md
    python src/plan.py --rates --write                                     # writes it there

Also says what ten times the questions would cost. Data that are prepared under this profile are counted; for others,
numbers and lengths are those of the profile and its source, and what is assumed is said. Hours are those of the models'
work alone: Python starts, texts are read and models are loaded besides.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bitter_retrieval.command_line import Parser, positive, run_stage

# isort: split
from rich import box
from rich.table import Table
from rich.text import Text

from bitter_retrieval.params import Params, load_params, parse_params
from bitter_retrieval.planning import rates
from bitter_retrieval.planning.amounts import Amounts, amounts_of
from bitter_retrieval.planning.costs import HOUR, Work, disk, encoder_shape, memory, rated, stages
from bitter_retrieval.planning.rates import Rate
from bitter_retrieval.planning.shapes import MINILM
from bitter_retrieval.processor import model_name
from bitter_retrieval.records import write_text
from bitter_retrieval.reporting.tables import console, markdown_table
from bitter_retrieval.typed_yaml import ParamsError, elsewhere, parse_yaml
from use_profile import PARAMS, PROFILES, render

RESULTS, PREPARED, README = Path("benchmarks/results"), Path("data/prepared"), Path("benchmarks/README.md")
MARK = "<!-- python src/plan.py --rates --write -->"
TIMES = 10
FAR = 10  # times in size, from which a rate says little
GIBIBYTE = 2**30
UNKNOWN = "not known"
PREFIXES = {1e21: "Z", 1e18: "E", 1e15: "P", 1e12: "T", 1e9: "G", 1e6: "M"}


class PlanError(ValueError):
    """What cannot be planned as asked."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    if not PROFILES.is_dir():
        raise ParamsError(f"{PROFILES}: no such folder{elsewhere()}")
    if options.rates:
        table = markdown_table(rates.HEADS, rates.rows(measured(options.results)))
        if options.write:
            write_text(README, with_table(README.read_text(encoding="utf-8"), table))
        print(table)
        return
    params = parse_params(parse_yaml(render(options.profile), options.profile), f"profile {options.profile}")
    amounts = amounts_of(params, PREPARED if is_prepared(params) else None, options.questions)
    known, notes = speeds(options)
    show(options.profile, params, amounts, known, options, notes)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("profile", nargs="?", help="a profile; `python src/use_profile.py` lists them")
    parser.add_argument("--machine", help="part of the name of a measured one (--rates); default: this processor")
    parser.add_argument("--flops", type=float, metavar="F", help="FLOP/s attained, instead of measured rates")
    parser.add_argument("--price-per-hour", type=float, metavar="P", help="of the machine, in any currency")
    parser.add_argument("--questions", type=positive, metavar="N", help="in files that are not prepared yet")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of measured rates")
    parser.add_argument("--rates", action="store_true", help="print the measured rates")
    parser.add_argument("--write", action="store_true", help="with --rates: write them into benchmarks/README.md")
    options = parser.parse_args(arguments)
    if (options.profile is None) != options.rates or (options.write and not options.rates):
        parser.error("give a profile, or --rates (and --write)")
    if options.flops is not None and (options.machine or not options.flops > 0):
        parser.error("--flops is a number above 0, and stands instead of --machine")
    return options


def is_prepared(params: Params) -> bool:
    """Whether data/prepared is of this profile: params.yaml, under which it was made, has the same data."""
    try:
        now = load_params(PARAMS)
    except ParamsError:
        return False
    return (now.data, now.beyond) == (params.data, params.beyond)


# -- rates ------------------------------------------------------------------------------------------------------------


def measured(results: Path) -> list[Rate]:
    default = parse_params(parse_yaml(render("default"), "default"), "profile default")
    mini = float(encoder_shape("mini", default).weights)
    return rates.measured(results, {"minilm": MINILM.weights, "default": mini, "default_apart": mini})


def speeds(options: argparse.Namespace) -> tuple[list[Rate], list[str]]:
    """The rates to plan by, and a note if there are none."""
    if options.flops:
        told = f"At {flops(options.flops)}/s attained by all stages, as --flops says: nothing is measured."
        return [], [told]
    everything = measured(options.results)
    if options.machine:
        found = rates.on(options.machine, everything)
        return found, [f"At the rates of {found[0].machine} in {options.results}."]
    here = model_name() or "this processor"
    machines = {rate.machine for rate in everything if rate.machine.startswith(here)}
    if len(machines) == 1:
        found = rates.on(machines.pop(), everything)
        return found, [f"At the rates of {found[0].machine} in {options.results}, which is the processor here."]
    names = "; ".join(sorted({rate.machine for rate in everything})) or "none"
    return [], [
        f"No rate is measured for {here}, so hours are not known. Measured: {names}. Name one of them with --machine, "
        "give --flops, or measure (benchmarks/README.md)."
    ]


def with_table(page: str, table: str) -> str:
    """The page with this table below its mark, instead of the one there."""
    before, mark, rest = page.partition(f"{MARK}\n\n")
    if not mark or MARK in before + rest:
        raise PlanError(
            f"{README}: must hold {MARK!r} once, at the end of a line above an empty one: the table follows."
        )
    lines = rest.splitlines(keepends=True)
    below = next((place for place, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return f"{before}{mark}{table}\n{''.join(lines[below:])}"


# -- the plan ---------------------------------------------------------------------------------------------------------


def show(
    name: str, params: Params, amounts: Amounts, known: list[Rate], options: argparse.Namespace, notes: list[str]
) -> None:
    screen, larger = console(), amounts.times(TIMES)
    works, further = stages(params, amounts), {work.stage: work for work in stages(params, larger)}
    screen.print(Text(f"Profile {name}, as planned: nothing has been computed\n", style="bold"))
    screen.print(counts(amounts))
    screen.print(*plan(works, further, known, options))
    screen.print(room(params, amounts, larger))
    for told in (*notes, *amounts.said, *unmeasured(works, known, options)):
        screen.print(Text(told))


def counts(amounts: Amounts) -> Table:
    table = _table("", *(name for name, count in amounts.questions.items() if count), "corpus")
    table.add_row("questions", *(f"{count:,}" for count in amounts.questions.values() if count), "")
    named = [f"{amounts.passages[name]:,.0f}" for name, count in amounts.questions.items() if count]
    table.add_row("passages", *named, f"{amounts.passages['corpus']:,.0f}")
    return table


def plan(
    works: list[Work], further: dict[str, Work], known: list[Rate], options: argparse.Namespace
) -> tuple[Table, Table]:
    """Two tables, a row a stage: what it computes at which rate, and what that costs, once and with more questions."""
    price, computed = options.price_per_hour, _table("stage", "tokens", "FLOPs", "rate of", "share")
    cost = _table("stage", "hours", "money", f"hours x{TIMES}", f"money x{TIMES}")
    sums = [Sum(), Sum()]
    for work in works:
        rate = rated(work, known)
        speed = rate.flops if rate else options.flops
        share = f"{rate.share:.0%}" if rate and rate.share and work.flops else ""
        named = rate.model if rate and work.flops else ""
        computed.add_row(work.stage, number(work.tokens), flops(work.flops), named, share)
        both = zip(sums, (work, further[work.stage]), strict=True)
        cost.add_row(work.stage, *(cell for total, one in both for cell in total.add(one, speed, price)))
    for table in (computed, cost):
        table.add_section()
    tokens, operations = (sum(getattr(work, of) for work in works) for of in ("tokens", "flops"))
    computed.add_row("in all", number(tokens), flops(operations), "", "")
    cost.add_row("in all", *(cell for total in sums for cell in total.cells(price)))
    return computed, cost


@dataclass
class Sum:
    """Hours and money of stages, as long as they are known."""

    hours: float = 0.0
    asked: float = 0.0  # by services
    unknown: bool = False

    def add(self, work: Work, speed: float | None, price: float | None) -> list[str]:
        """Cells of one stage."""
        hours = work.flops / speed / HOUR if speed else 0.0
        one = Sum(hours, work.money, bool(work.flops) and speed is None)
        self.hours, self.asked, self.unknown = self.hours + hours, self.asked + one.asked, self.unknown or one.unknown
        return one.cells(price)

    def cells(self, price: float | None) -> list[str]:
        hours = UNKNOWN if self.unknown else f"{self.hours:,.2f}"
        if price is None:
            return [hours, f"{self.asked:,.2f}" if self.asked else ""]
        return [hours, UNKNOWN if self.unknown else f"{self.asked + price * self.hours:,.2f}"]


def room(params: Params, amounts: Amounts, larger: Amounts) -> Table:
    """Memory and disk."""
    table = _table("memory and disk, GiB", "", f"x{TIMES}")
    (most, stage), (more, _) = memory(params, amounts), memory(params, larger)
    table.add_row(f"memory, most in {stage}", _gib(most), _gib(more))
    here, there = disk(params, amounts), disk(params, larger)
    for what in here:
        table.add_row(f"disk: {what}", _gib(here[what]), _gib(there[what]))
    table.add_row("disk in all", _gib(sum(here.values())), _gib(sum(there.values())))
    return table


def unmeasured(works: list[Work], known: list[Rate], options: argparse.Namespace) -> list[str]:
    """Where a rate is of another kind of work, or of a model of another size."""
    found = [(work, rate) for work in works if (rate := rated(work, known)) is not None]
    other = sorted({(rates.WORKS[work.kind], rates.WORKS[rate.work]) for work, rate in found if rate.work != work.kind})
    said = [f"{kind.capitalize()} is not measured on this machine: by the rate of {by}." for kind, by in other]
    for work, rate in found:
        apart = max(work.weights / rate.weights, rate.weights / work.weights)
        if apart > FAR:
            said.append(
                f"{work.stage}: the nearest model measured is {apart:,.0f} times as large or small: hours are a guess."
            )
    if options.price_per_hour is None:
        said.append("Without --price-per-hour, money is what services ask.")
    return said


def number(value: float) -> str:
    return f"{value:,.0f}" if value < 1e6 else f"{value / 1e6:,.1f}M" if value < 1e9 else f"{value / 1e9:,.2f}G"


def flops(value: float) -> str:
    if not value:
        return ""
    scale = next((scale for scale in PREFIXES if value >= scale), 1.0)
    return f"{value / scale:,.1f} {PREFIXES.get(scale, '')}FLOP"


def _gib(size: float) -> str:
    return f"{size / GIBIBYTE:,.2f}"


def _table(*heads: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, head in enumerate(heads):
        table.add_column(head, justify="right" if place else "left", no_wrap=True)
    return table


if __name__ == "__main__":
    run_stage(main)
