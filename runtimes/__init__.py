"""Everything that runs inside a worker, in the interpreter and environment of a framework.

The common part uses only the standard library and numpy, and no syntax newer than Python 3.6, which CNTK needs. Only
the files in a runtime's own folder import its framework. Nothing here imports the gateway.
"""
