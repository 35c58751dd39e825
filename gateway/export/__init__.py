"""A served model made into a file for phones, browsers and others, with proof that it computes the same."""
