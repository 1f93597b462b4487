"""What the benchmarks share: workers that take turns, environments, the machine, tables."""
