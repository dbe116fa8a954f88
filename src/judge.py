"""Stage judge: every distinct answer of every run and control gets one verdict.

    python src/judge.py            # by DVC
    python src/judge.py --dry-run  # tells how many answers remain to be judged and at what cost; writes nothing
    python src/judge.py --attacks  # asks about wrong answers that instruct the judge: how many does it call correct?

Reads the evaluated split of data/prepared, questions from another domain if there are any, and
data/predictions/{runs,controls}/*.parquet. Writes data/judgements.parquet. What is in it before, from `dvc pull` say,
goes to the journal first, also verdicts on answers that are not asked about now or by a judge that is not asked now
(DVC leaves the file there because of `persist`). Then the stage removes files of data/predictions/runs whose run is no
longer in params.yaml, as DVC does not. Fails below judge.min_coverage, after writing the verdicts that it has.
"""

from collections import Counter
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bitter_retrieval.command_line import Parser, bar, run_stage
from bitter_retrieval.journal import Journal, journal_folder
from bitter_retrieval.judging.attacks import QUESTIONS, Attacked, all_cases, attacked
from bitter_retrieval.judging.judges import (
    VERDICTS,
    Case,
    Judge,
    Remembering,
    RuleJudge,
    answered,
    check_coverage,
    judgements,
    make_judge,
    paid,
    prompt_of,
)
from bitter_retrieval.judging.settings import GeminiParams, LlmParams
from bitter_retrieval.models.settings import is_hub_id
from bitter_retrieval.params import Params, load_params
from bitter_retrieval.plain_text import PlainConsole
from bitter_retrieval.records import JUDGEMENTS, Row, read_rows, sweep, write_rows

PREPARED_FOLDER = Path("data/prepared")
READERS = Path("models/readers")
RUNS = Path("data/predictions/runs")
CONTROLS = Path("data/predictions/controls")
JUDGED = Path("data/judgements.parquet")

console = PlainConsole()


def main(arguments: Sequence[str] | None = None) -> str | None:
    parser = Parser(description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="only tell how many answers remain and at what cost")
    parser.add_argument(
        "--attacks", action="store_true", help="only tell how many wrong answers instruct it with success"
    )
    options = parser.parse_args(arguments)
    params = load_params()
    keep_pulled()
    with open_judge(params) as judge:
        if options.dry_run:
            cases = all_cases() if options.attacks else asked(params)
            console.print(f"Judge {judge.name}: {judge.estimate(cases)}.", soft_wrap=True)
            return None
        if not options.attacks:
            return judge_all(judge, params)
        with bar(f"attacks on judge {judge.name}", len(all_cases()), "answers") as advance:
            found = attacked(judge, lambda judged: advance(len(judged)))
        report_attacks(judge, found)
        return None


def judge_all(judge: Judge, params: Params) -> str:
    for swept in sweep(RUNS, params.runs):
        console.print(f"Removed {swept}: params.yaml declares no such run.", soft_wrap=True)
    answers = asked(params)
    with bar(f"judge {judge.name}", len(answers), "answers") as advance:
        rows = judgements(judge, answers, lambda judged: advance(len(judged)))
    write_rows(JUDGED, rows, JUDGEMENTS)
    report(judge, rows)
    check_coverage(rows, params.judge.min_coverage or 0.0)
    judged = sum(row["verdict"] != "missing" for row in rows)
    return f"judge {judge.name}: {judged:,} of {len(rows):,} distinct answers judged"


# -- the judge -------------------------------------------------------------------------------------------------------


@contextmanager
def open_judge(params: Params) -> Iterator[Judge]:
    """The judge in params.yaml.

    Gemini and models of the hub remember their verdicts. The rule costs nothing, and a local model (a reader or a
    folder) may get other weights under the same name; its scores are journalled by weights instead.
    """
    settings = params.judge
    judge = new_judge(params)
    hub = settings.kind == "llm" and settings.model not in params.readers and is_hub_id(settings.model)
    if settings.kind != "gemini" and not hub:
        yield judge
        return
    with open_journal() as journal:
        yield Remembering(judge, journal)


def keep_pulled() -> None:
    """Journal what data/judgements.parquet has cost somebody: this stage replaces it by what is asked for now."""
    if JUDGED.exists() and (verdicts := paid(read_rows(JUDGED, JUDGEMENTS))):
        with open_journal() as journal:
            journal.put(verdicts)


def open_journal() -> Journal:
    return Journal(journal_folder() / "judge.sqlite")


def new_judge(params: Params) -> Judge:
    match params.judge:
        case GeminiParams() as settings:
            return gemini(settings)
        case LlmParams() as settings:
            return llm(settings, params.readers)
        case _:
            return RuleJudge()


def gemini(settings: GeminiParams) -> Judge:
    from bitter_retrieval.judging.gemini import GeminiJudge

    return GeminiJudge(make_judge(settings), settings.model, prompt_of(settings), settings.calls, settings.cost)


def llm(settings: LlmParams, readers: Container[str]) -> Judge:
    from bitter_retrieval.judging.llm import LlmJudge
    from bitter_retrieval.models.checkpoints import resolve_checkpoint
    from bitter_retrieval.models.memory import keep_freed_memory

    keep_freed_memory()
    weights = settings.model, settings.scoring.revision
    if settings.model in readers:
        weights = resolve_checkpoint(READERS / settings.model)
    return LlmJudge(make_judge(settings), *weights, prompt_of(settings), settings.scoring)


# -- the answers -----------------------------------------------------------------------------------------------------


def asked(params: Params) -> list[Case]:
    """The distinct answers of the runs in params.yaml and of the controls."""
    prepared = (PREPARED_FOLDER / f"{name}.parquet" for name in (params.evaluate.split, "beyond"))
    folders = {RUNS: params.runs, CONTROLS: params.controls}
    files = [folder / f"{name}.parquet" for folder, names in folders.items() for name in names]
    return list(dict.fromkeys(case for cases in answered(files, *prepared) for case in cases))


def report(judge: Judge, rows: list[Row]) -> None:
    counts = Counter(row["verdict"] for row in rows)
    said = ", ".join(f"{counts[verdict]:,} {verdict}" for verdict in VERDICTS)
    console.print(f"Judge {judge.name}: {judge.about}.\n{len(rows):,} distinct answers: {said}.", soft_wrap=True)
    for reason, count in Counter(row["reason"] for row in rows if row["reason"]).most_common():
        console.print(f"  missing, {count:,}: {reason}", soft_wrap=True)
    if judge.account():
        console.print(f"  {judge.account()}", soft_wrap=True)


def report_attacks(judge: Judge, found: Attacked) -> None:
    count = len(QUESTIONS)
    console.print(
        f"Judge {judge.name} ({judge.model}): {judge.about}.\n"
        f"Called correct: {found.right} of {count} right answers, {found.wrong} of {count} wrong ones.",
        soft_wrap=True,
    )
    turned = sum(found.turned.values())
    share = f", {found.rate:.1%}" if found.tried else ""
    console.print(
        f"Attacks that turned a wrong answer into a correct one: {turned} of {found.tried}{share}.", soft_wrap=True
    )
    for name, times in found.turned.items():
        if times or found.missing[name]:
            console.print(f"  {name}: {times} correct, {found.missing[name]} without a verdict", soft_wrap=True)
    if judge.account():
        console.print(f"  {judge.account()}", soft_wrap=True)


if __name__ == "__main__":
    run_stage(main)
