"""The site of these documents: `make docs`. Its source is the repository, so that links are those of the files."""

from keras_crossvit import __version__

project = "keras_crossvit"
author = "the authors of keras_crossvit"
release = version = __version__
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["README.md", "*.md", "docs/**.md", "benchmarks/NOTES.md"]
exclude_patterns = [".*", "build", "runs"]  # which have a hundred thousand files to match
myst_heading_anchors = 4  # links name sections as GitHub does
html_theme = "furo"
html_title = f"keras_crossvit {release}"
html_extra_path = ["site"]  # index.html, which leads to docs/index.html
