"""The contract suite: what every runtime must do, checked in its own interpreter. run.py describes it."""
