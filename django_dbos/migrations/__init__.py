"""The history of the system tables."""
