"""Where runtimes disagree on ordinary input: questions, asked of each framework in its own environment.

`questions.py` lists them; `in_*.py` answer them, one file per framework; `page.py` writes docs/differences.md.
"""
