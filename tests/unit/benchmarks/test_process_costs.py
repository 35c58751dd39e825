"""The CPU time and the context switches of a server's processes, by role."""

import subprocess
import sys

from benchmarks.process_costs import Cost, PerRequest, costs, summary
from benchmarks.servers import Server

# It uses some CPU time, and its child waits, for each line.
PROGRAM = """
import subprocess, sys
child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
for line in sys.stdin:
    child.stdin.write(b"x\\n"), child.stdin.flush(), child.stdout.readline()
    sum(range(100_000))
    print("done", flush=True)
child.communicate()
"""


def test_costs_are_counted_for_each_process_of_a_server() -> None:
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        server = Server("any", process)

        def step() -> dict[str, Cost]:
            print("go", file=process.stdin, flush=True)
            assert process.stdout.readline() == "done\n"
            return costs(server)

        before, after = step(), step()
        process.stdin.close()
    assert set(before) == set(after) == {"server", "worker"}
    spent = {role: after[role].since(before[role]) for role in after}
    assert all(cost.cpu > 0 and cost.switches > 0 for cost in spent.values())


def test_a_summary_is_per_request() -> None:
    rounds = [
        PerRequest({"front": Cost(cpu=0.002, user=0.03, system=0.01, switches=50)}, requests=100),
        PerRequest({"front": Cost(cpu=0.001, user=0.03, system=0.01, switches=30)}, requests=100),
    ]
    assert summary(rounds) == [["front", "15.0", "10.0", "25%", "0.40"]]
