"""The suite. It runs on SQLite and, with ``DATABASE_URL``, on PostgreSQL; see CONTRIBUTING.md."""
