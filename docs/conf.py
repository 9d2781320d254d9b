"""Sphinx's settings."""

from importlib.metadata import version as installed_version

project = "django-dbos"
author = "django-dbos contributors"
copyright = "django-dbos contributors"
release = installed_version("django-dbos")

extensions = ["myst_parser", "sphinxcontrib.mermaid"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3
myst_fence_as_directive = ["mermaid"]

html_theme = "furo"
html_title = "django-dbos"
