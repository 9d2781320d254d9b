"""The system database, verb by verb."""
