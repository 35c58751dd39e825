"""What several tests share, apart from pytest's fixtures: servers, clients, requests, models, environments."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
