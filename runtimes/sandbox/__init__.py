"""The box in which a worker runs a model: which files it may use, and which system calls (docs/security.md).

A model is a program that somebody else has written. `box.confine` takes files away before the framework is imported,
and `box.seal` takes system calls away before the model is loaded. Linux only; `support.features` says what this machine
can enforce.
"""
