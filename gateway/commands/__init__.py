"""The subcommands of `modelport`."""
