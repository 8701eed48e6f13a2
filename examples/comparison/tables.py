"""A comparison's table for spreadsheets and for papers."""

from __future__ import annotations

import csv
import io

from .report import Comparison

SPECIAL = str.maketrans({c: f"\\{c}" for c in "%_&#$"} | {"×": r"$\times$", "<": "$<$"})


def csv_table(comparison: Comparison) -> str:
    """One line an arm, with all digits; what there is none of is empty."""
    lines = []
    for act in comparison.acts:
        for row in comparison.rows(act):
            accuracy, difference = row.accuracy, row.difference
            line = {
                "activation": row.arm.act,
                "rule": row.arm.rule,
                "targets": row.arm.targets,
                "learning_rate": row.learning_rate,
                "seeds": accuracy.seeds,
                "test_accuracy": accuracy.mean,
                "test_accuracy_low": accuracy.low,
                "test_accuracy_high": accuracy.high,
                "reference": comparison.reference,
            }
            for name, field in (
                ("difference", "mean"),
                ("difference_low", "low"),
                ("difference_high", "high"),
                ("p", "p"),
                ("p_holm", "p_holm"),
            ):
                line[name] = None if difference is None else getattr(difference, field)
            lines.append(line | {"time": row.time, "memory": row.memory})
    stream = io.StringIO()
    writer = csv.DictWriter(stream, lines[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return stream.getvalue()


def latex_table(comparison: Comparison) -> str:
    """A table for the package booktabs, its caption included."""
    cells = comparison.cells()
    texts = [list(cells[0]), *(list(row.values()) for row in cells)]
    lines = [" & ".join(text.translate(SPECIAL) for text in row) + r" \\" for row in texts]
    return "\n".join(
        [
            r"\begin{table}",
            rf"\begin{{tabular}}{{{'l' * len(cells[0])}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            rf"\caption{{{comparison.caption().translate(SPECIAL)}}}",
            r"\end{table}",
            "",
        ]
    )
