"""Tables of the reports, for the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


def text_table(columns: Mapping[str, int], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a table: names on the left, as wide as they are, numbers on the right.

    Args:
        columns: the title and the width of each column; the first one's is its least width.
        rows: what stands in each column.

    >>> text_table({"layer": 5, "integers": 9}, [("classifier", 12)])
    ['layer        integers', 'classifier         12']
    """
    lines = [[str(cell) for cell in row] for row in (list(columns), *rows)]
    first, *widths = columns.values()
    first = max(first, *(len(name) for name, *_ in lines))
    return [f"{name:{first}}  {' '.join(map(str.rjust, cells, widths))}" for name, *cells in lines]


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a Markdown table.

    >>> markdown_table(("layer", "integers"), [("classifier", 12)])
    ['| layer | integers |', '| --- | --- |', '| classifier | 12 |']
    """
    lines = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(map(str, line))} |" for line in lines]
