"""Programs in the shape in which they are written for DBOS Transact for Python; only their imports are ours."""
