"""Sphinx settings: MyST Markdown, furo, the API from docstrings."""

from mini_bert import __version__

project = "Mini-BERT"
author = "The Mini-BERT authors"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "Mini-BERT"
exclude_patterns = ["_build"]
default_role = "code"  # `name` in a docstring
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"  # settings are described by the schema, not by their types
suppress_warnings = ["myst.xref_missing"]  # links to source files of the repository, which are not pages
