"""Rewrite the SystemVerilog that Debian's Verilator 5.006 cannot read into the same circuit."""

from __future__ import annotations

import re

# (pattern, replacement): each says the same in words that Verilator 5.006 knows; sources without
# the pattern are left as they are.
REWRITES = (
    # A clock qualified by a condition is that clock and an if.
    (re.compile(r"@\((posedge\s+\w+)\s+iff\s+([^()]*)\)"), r"@(\1) if(\2)"),
    # A concatenation of unpacked arrays is a shift.
    (
        re.compile(r"(\w+)\s*<=\s*\{\s*(\w+)\s*,\s*\1\[0:(\w+)-1\]\s*\};"),
        r"begin \1[0] <= \2; for(int i = 1; i <= \3; i++) \1[i] <= \1[i-1]; end",
    ),
    # A struct of vectors that starts out unknown is a vector.
    (re.compile(r"typedef struct \{(\s*logic[^{}]*\} buf_t;)"), r"typedef struct packed {\1"),
    # Constant functions may not stand under a generate, nor give an unpacked array.
    (
        re.compile(
            r"(uwire \[SUM_WIDTH-1:0\]\s+sum0;.*?)"
            r"typedef int unsigned\s+leaf_load_t\[2\*N-1\];"
            r"(.*?LEAF_LOAD = init_leaf_loads\(\);\n)",
            re.DOTALL,
        ),
        r"typedef logic [2*N-2:0][31:0]  leaf_load_t;\2\1",
    ),
)


def readable(source: str) -> str:
    """The source with every known pattern replaced.

    >>> readable("always_ff @(posedge clk iff en) q <= d;")
    'always_ff @(posedge clk) if(en) q <= d;'
    """
    for pattern, replacement in REWRITES:
        source = pattern.sub(replacement, source)
    return source
