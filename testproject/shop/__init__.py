"""A small shop: what is bought is reserved, charged, shipped and confirmed by one durable workflow."""
