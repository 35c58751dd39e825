"""Computes LiteRT's answers from the .tflite files that in_tensorflow.py wrote to the folder in the third argument."""

import sys
from pathlib import Path

from ai_edge_litert import interpreter as litert
from asked import answer_all


def runner(path):
    def run(*arrays):
        model = litert.Interpreter(model_path=str(path), num_threads=1)
        details = sorted(model.get_input_details(), key=lambda each: each["name"])
        model.allocate_tensors()
        for detail, array in zip(details, arrays, strict=True):
            model.set_tensor(detail["index"], array)
        model.invoke()
        return model.get_tensor(model.get_output_details()[0]["index"])

    return run


if __name__ == "__main__":
    import importlib.metadata

    files = sorted(Path(sys.argv[3]).glob("*.tflite"))
    answer_all("LiteRT " + importlib.metadata.version("ai-edge-litert"), {file.stem: runner(file) for file in files})
