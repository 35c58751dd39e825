# cython: language_level=3
"""The usual requests, from the socket to the worker's frame and back, as compiled code.

Python answers all requests without it (gateway/front/fast.py decides).
"""

# Of the interface between this module and the front's Python code, which come from the same release.
VERSION = 1
