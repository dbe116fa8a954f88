"""Markdown tables, read back."""

import markdown_tables
import pytest

from bitter_retrieval.reporting.tables import markdown_table


@pytest.mark.parametrize("width", [1, 300])
def test_a_table_is_read_back_whatever_its_cells_hold(width: int) -> None:
    heads = ["", "[b]points[/b] :key:", "x" * width]
    rows = [["a|b", "+4.6 [+1.7, +7.6]", ""], ["two\nlines", "**−1.0 ± 2.0**", "日本"], ["", "`code`", "-"]]
    (found,) = markdown_tables.tables(f"Before:\n\n{markdown_table(heads, rows)}\n\nAfter.\n")
    assert found == [heads, ["a\\|b", *rows[0][1:]], ["two lines", *rows[1][1:]], rows[2]]


def test_a_table_without_rows_has_its_head() -> None:
    assert markdown_tables.tables(markdown_table(["run", "EM"], [])) == [[["run", "EM"]]]
