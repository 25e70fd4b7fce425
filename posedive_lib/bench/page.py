"""An executed notebook as one small HTML page, readable on a phone and without a network.

Images are inside, and alternative texts are kept. nbconvert's own full templates drop those texts
(lab) or bring 280 kB of styles (classic); its bare template does neither.
"""

import html
import re

from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

STYLE = """body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.55 system-ui, \
sans-serif; color: #1a1a1a; background: #fff; }
h1, h2, h3, p, li, td.text, summary { overflow-wrap: anywhere; }
h1, h2, h3 { line-height: 1.25; margin: 2rem 0 .6rem; }
img, svg { max-width: 100%; height: auto; }
pre { overflow-x: auto; padding: .6rem .8rem; border-radius: 4px; font-size: .85rem; line-height: \
1.4; }
.highlight pre { background: #f5f5f5; }
.output_area pre { border-left: 3px solid #bbb; background: none; }
table { border-collapse: collapse; margin: .8rem 0; font-size: .9rem; display: block; overflow-x: \
auto; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: right; white-space: \
nowrap; }
caption { text-align: left; padding-bottom: .4rem; min-width: min(28rem, 100vw - 2rem); \
max-width: min(58rem, 100vw - 2rem); }
blockquote { margin: 1rem 0; padding: .1rem 1rem; border-left: 4px solid #0173b2; background: \
#f2f8fc; }
p:has(> math[display="block"]) { overflow-x: auto; overflow-y: hidden; }
nav { border-bottom: 1px solid #ddd; padding: .4rem 0; font-size: .9rem; }
figure { margin: 1.2rem 0; }
figcaption { font-size: .9rem; }
.wide { overflow-x: auto; }
.wide svg { max-width: none; }
td.text, th.text { text-align: left; min-width: 7rem; vertical-align: top; white-space: normal; }
.anchor-link { visibility: hidden; text-decoration: none; }
"""
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""
BLOCK = re.compile(r"\$\$(.+?)\$\$", flags=re.DOTALL)  # a formula on lines of its own
INLINE = re.compile(r"(?<!\\)\$(?! )([^$\n]+?)(?<! )\$")


def to_html(notebook: NotebookNode, title: str) -> str:
    """The page of an executed notebook; equal notebooks give equal pages."""
    notebook = NotebookNode(notebook, cells=[_with_mathml(cell) for cell in notebook.cells])
    exporter = HTMLExporter(
        template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True
    )
    body, _ = exporter.from_notebook_node(notebook)
    return document(title, body)


def document(title: str, body: str) -> str:
    """A page of the study's look around `body` (HTML)."""
    return PAGE.format(title=html.escape(title), style=style(), body=body)


def style() -> str:
    """The study's look as CSS, with the colours of code."""
    return f"{STYLE}{HtmlFormatter(style='default').get_style_defs('.highlight')}\n"


def _with_mathml(cell: NotebookNode) -> NotebookNode:
    """A Markdown cell with its formulas as MathML, which browsers draw by themselves."""
    if cell.cell_type != "markdown":
        return cell
    text = BLOCK.sub(lambda found: convert(found[1].strip(), display="block"), cell.source)
    return NotebookNode(cell, source=INLINE.sub(lambda found: convert(found[1]), text))
