"""Settings of the book (Sphinx with MyST-NB); posedive_lib/bench/site.py runs it.

Nothing is fetched when the book is built or read: formulas are drawn by the MathJax of a package,
and the theme brings its own fonts and scripts.
"""

from importlib.util import find_spec
from pathlib import Path

MATHJAX = find_spec("sphinx-mathjax-offline").submodule_search_locations[0]

project = "Pose-dIVE, reproduced"
author = "The Pose-dIVE reproduction's contributors"
language = "en"
extensions = [
    "myst_nb",
    "sphinxcontrib.bibtex",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build"]
bibtex_bibfiles = ["../references.bib"]

html_theme = "furo"
html_title = project
html_static_path = ["book.css", str(Path(MATHJAX, "static/mathjax/tex-svg.js"))]
html_css_files = ["book.css"]
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_domain_indices = False  # the API has a page of its own; its pictures have no text
html_show_search_summary = False  # the search would have to fetch the pages, which files refuse
html_last_updated_fmt = None
mathjax_path = "tex-svg.js"

# Figures and displayed formulas have the number of their notebook: Fig. 4.2, (4.1).
numfig = True
numfig_format = {"figure": "Fig. %s"}
math_numfig = True
math_eqref_format = "({number})"

nb_execution_mode = "off"  # the book shows what `dvc repro` made, and runs nothing
nb_render_markdown_format = "myst"
nb_number_source_lines = False
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "attrs_block", "attrs_inline", "dollarmath", "deflist"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
suppress_warnings = [
    "docutils",  # lists in docstrings are for reading in the source
    "myst.header",
    "ref.python",  # a name that a package passes on has two places
]

# One page for each package, from the docstrings.
apidoc_modules = [
    {
        "path": str(Path(find_spec("posedive_lib").origin).parent),
        "destination": "api",
        "max_depth": 1,
        "module_first": True,
        "no_headings": False,
        "separate_modules": False,
        "include_private": False,
    }
]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "undoc-members": False}
default_role = "code"  # single backticks in docstrings
add_module_names = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 80
