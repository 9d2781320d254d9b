"""How fast it is here: ``python -m benchmarks``, see docs/benchmarks.md."""
