"""Print as JSON what TensorBoard reads from a log: `PYTHON tensorboard_script.py FOLDER`, in its environment."""

import json
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def read(run):
    found = EventAccumulator(str(run))
    found.Reload()
    tags = found.Tags()
    result = {
        "scalars": {tag: {event.step: event.value for event in found.Scalars(tag)} for tag in tags["scalars"]},
        "texts": tags["tensors"],
        "times": {},
    }
    if tags["graph"]:
        nodes = found.Graph().node
        result["nodes"] = [{"name": node.name, "operator": node.op, "inputs": list(node.input)} for node in nodes]
    for tag in tags["run_metadata"]:
        for device in found.RunMetadata(tag).step_stats.dev_stats:
            result["times"].update((each.node_name, each.all_end_rel_micros) for each in device.node_stats)
    return result


if __name__ == "__main__":
    runs = sorted({file.parent for file in Path(sys.argv[1]).rglob("events.out.tfevents.*")})
    print(json.dumps({run.name: read(run) for run in runs}))
