"""The plain dialect: POST /predict."""
