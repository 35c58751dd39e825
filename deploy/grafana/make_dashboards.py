"""Makes the dashboards: `python -m deploy.grafana.make_dashboards` writes dashboards/*.json.

Change a dashboard in its module here and not in its JSON file; a test compares them.
"""

import json
from pathlib import Path

from deploy.grafana.clients import clients
from deploy.grafana.gpus import gpus
from deploy.grafana.model import model
from deploy.grafana.overview import overview
from deploy.grafana.triton import triton
from deploy.grafana.workers import workers

FOLDER = Path(__file__).parent / "dashboards"


def files() -> dict[str, str]:
    """Return the dashboards as file name → content."""
    made = {make.__name__: make() for make in (overview, model, workers, gpus, clients, triton)}
    return {f"{name}.json": json.dumps(content, indent=1, ensure_ascii=False) + "\n" for name, content in made.items()}


if __name__ == "__main__":
    for name, content in files().items():
        (FOLDER / name).write_text(content)
