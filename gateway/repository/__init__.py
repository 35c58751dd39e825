"""Reads model repositories: version folders, artifacts, model.toml, config.pbtxt and models.config."""
