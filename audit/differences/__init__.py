"""Finds ordinary inputs on which frameworks disagree. Each framework runs in its own environment.

`questions.py` lists the computations; `in_*.py` run them, one file per framework; `page.py` writes docs/differences.md.
"""
