"""What the benchmarks share: rivals that take turns, and what a run leaves behind."""
