"""All that runs inside a worker, in a framework's own interpreter and environment.

Standard library and numpy only, and nothing newer than Python 3.6 (CNTK's), save the one
runtime.py per framework that imports it. Nothing here imports the gateway.
"""
