"""
``make demo``: the shop, its worker, and what happens when the worker is killed.

``python -m testproject.demo`` runs until Ctrl-C, for a person; ``--once`` does the same without one and reports.
"""
