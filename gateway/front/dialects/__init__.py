"""One folder for each dialect; registry.py lists them."""
