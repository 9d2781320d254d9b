"""The agents of a worker, each in this process."""
