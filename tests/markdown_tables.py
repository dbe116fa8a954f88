"""Tables of a Markdown page, read as GitHub reads them."""

import re

Table = list[list[str]]  # the head, then rows; cells without the space around them


def tables(page: str) -> list[Table]:
    """Refuses what would not be shown as a table: a line of dashes that is absent, or rows of other lengths."""
    found = re.findall(r"^\|.*\n(?:\|.*\n?)*", page, re.MULTILINE)
    return [_table(block.splitlines()) for block in found]


def rows(page: str) -> Table:
    """Rows of all tables, heads among them."""
    return [row for table in tables(page) for row in table]


def _table(lines: list[str]) -> Table:
    assert all(line.endswith("|") for line in lines), lines
    head, dashes, *below = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert all(re.fullmatch(":?-+:?", cell) for cell in dashes), f"no line of dashes below {head}"
    assert {len(cells) for cells in (dashes, *below)} <= {len(head)}, lines
    return [head, *below]
