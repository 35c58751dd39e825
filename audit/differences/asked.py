"""Answers the questions with one framework: `PYTHON in_NAME.py QUESTIONS.json ANSWERS.json`.

The in_*.py files import this module from their own folder. It is limited to Python 3.6 and numpy, because CNTK's
interpreter also runs it.
"""

import json
import sys

import numpy as np


def answer_all(version, functions, order=("x", "y")):
    """Call the function of each question, and write its results or its error.

    functions: question id → a function of the question's input arrays.
    """
    with open(sys.argv[1]) as file:
        questions = json.load(file)
    answers = {"version": version, "answers": {}}
    for question in questions:
        function = functions.get(question["id"])
        if function is None:
            continue
        inputs = [np.array(values, dtype) for _, (dtype, values) in sorted(question["inputs"].items())]
        try:
            found = np.asarray(function(*inputs))
            answers["answers"][question["id"]] = {"value": found.tolist(), "datatype": str(found.dtype)}
        except Exception as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            answers["answers"][question["id"]] = {"error": type(error).__name__ + (": " + lines[0] if lines else "")}
    with open(sys.argv[2], "w") as file:
        json.dump(answers, file)
