"""One folder for each dialect that clients speak; registry.py lists them."""
