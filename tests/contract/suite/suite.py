"""The suite: which checks run for a case, in which order, and how they report."""

import json
import traceback

from .answers import AnswerChecks
from .batching import BatchingChecks
from .graphs import GraphChecks
from .refusals import RefusalChecks


class Suite(AnswerChecks, RefusalChecks, BatchingChecks, GraphChecks):
    """Every method named check_… is one check; its docstring says what must hold. A check fails by raising."""

    def run(self):
        if self.case.get("load_error"):
            return report("load_error", self.load_error)
        if self.case.get("load_errors"):
            return report("load_errors", self.load_errors)
        if self.case.get("faults"):
            return report("faults", self.faults)
        if not report("load", self.load):
            return False
        if self.case.get("fails"):
            return report("fails", self.fails)
        # In the order of their definition: later checks rely on what earlier ones left, and `close` is the last.
        names = [name for group in Suite.__mro__[1:5] + (Suite,) for name in vars(group) if name.startswith("check_")]
        return all([report(name[len("check_") :], getattr(self, name)) for name in names])

    def check_close(self):
        self.model.close()


def report(name, check):
    try:
        check()
    except Exception as error:
        detail = "%s: %s" % (type(error).__name__, error)
        traceback.print_exc()
        print(json.dumps({"check": name, "ok": False, "detail": detail}), flush=True)
        return False
    print(json.dumps({"check": name, "ok": True, "detail": ""}), flush=True)
    return True
