"""Charts that notebooks draw from tables, a module per kind.

So a changed chart re-runs only the notebooks that show it. Each function takes a tidy table and
returns a figure for `figures.save`, which puts picture, data, caption and text together.
"""
