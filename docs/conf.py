"""Settings of the site that ``make docs`` builds: the pages as they are, and an API reference.

The sources are taken from the whole repository, so that links between README, docs/ and other
folders are the same here and on a code host. ``tools/site.py`` does what Sphinx does not.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["COLUMNS"] = "100"  # width of the commands' help

from qsam2_deploy import __version__

project = "qsam2-deploy"
author = "the authors of qsam2-deploy"
version = release = __version__

extensions = ["sphinx.ext.autodoc", "myst_parser", "tools.site"]
root_doc = "docs/README"
include_patterns = ["*.md", "docs/*.md", "docs/reference/*.rst", "assets/*.md", "benchmarks/*.md"]
exclude_patterns = [".*", "build", "dist", "qsam2_deploy", "tests", "tools"]
templates_path = ["_templates"]

# Only the names of these packages are needed, so the reference is built without them.
autodoc_mock_imports = [
    "av", "cv2", "google", "hydra", "iopath", "matplotlib", "omegaconf", "onnx", "onnxruntime",
    "openvino", "sam2", "torch", "torchvision", "yaml",
]  # fmt: skip
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
autoclass_content = "both"
python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"

myst_heading_anchors = 4
highlight_language = "none"

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = f"qsam2-deploy {version}"
html_additional_pages = {"index": "to_root.html"}
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
