"""Sphinx configuration of the site; scripts/docs.sh builds it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import figures
from directives import CommandHelp, ConfigurationTable
from docutils import nodes
from sphinx.application import Sphinx

import mae_et

project = "mae-et"
author = project_copyright = "the authors of mae-et"
release = version = mae_et.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_design",
]
exclude_patterns = ["_build", "jupyter_execute"]  # what builds write

myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

nb_execution_mode = os.environ.get("DOCS_NOTEBOOK", "cache")
nb_execution_cache_path = str(HERE / "_build" / ".jupyter_cache")  # else in docs/, beside the pages
nb_execution_timeout = 900
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
# Types of other libraries, for which there is no network, and names that only annotations use.
OTHERS = r"(pathlib\.)?Path|collections\.abc\..*|torch\.Tensor|pd\.DataFrame|Figure|.*LoaderSpeed"
OURS = (
    "Data|Size|RunOfAnyKind|DecoderKind|(Stage)?Plan|Embedded|PackSummary|Run.*Error"
    "|.*MaskedModel|.*targets.Target"
)
nitpick_ignore_regex = [("py:(class|exc)", rf"{OTHERS}|{OURS}")]
napoleon_numpy_docstring = False
default_role = "code"  # docstrings name things in single backticks

html_theme = "furo"
html_title = "mae-et"
pygments_dark_style = "github-dark"  # the theme's own underlines imports as if they were links
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#005b8f", "color-brand-content": "#005b8f"},
    "dark_css_variables": {"color-brand-primary": "#56b4e9", "color-brand-content": "#56b4e9"},
}


def keep_numbers_whole(_: Sphinx, page: nodes.document) -> None:
    """Let no line of a table's cell end within a number: 58.9 ± 2.5 %, [1.3, 2.4]."""
    for cell in page.findall(nodes.entry):
        for text in list(cell.findall(nodes.Text)):
            whole = re.sub(r"(?<=\d) (?=[±%])|(?<=±) |(?<=\d,) (?=[−+\d.]+\])", "\u00a0", text)
            text.parent.replace(text, nodes.Text(whole))


def setup(app: Sphinx) -> None:
    """Draw the figures before any page is read, and add the tables made from the code."""
    app.connect("doctree-read", keep_numbers_whole)
    app.connect("builder-inited", lambda app: figures.draw_all(Path(app.srcdir) / "_figures"))
    app.add_directive("configuration-table", ConfigurationTable)
    app.add_directive("command-help", CommandHelp)
