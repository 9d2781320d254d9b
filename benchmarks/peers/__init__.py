"""Others at the same workloads, each a program of its own, so that it may live in another virtual environment."""
