"""The sections of the benchmark: each module has `measure(bench)`, which returns a Section."""
