"""The admin app: every route that is not hot."""
