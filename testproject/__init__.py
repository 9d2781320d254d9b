"""A small Django project that uses django-dbos: the demo, and the ground for manual work."""
