"""Make a model whose operators use files that are not its own: `PYTHON make_hostile.py RUNTIME FOLDER OUTSIDE`.

y is 2x, plus what was read: for 11 the sum or length of /etc/passwd, for 12 what was written to OUTSIDE, for 13 the
number of files in /etc. Runs in the environment of the framework.
"""

import sys
from pathlib import Path


def torchscript(folder: Path, outside: str) -> None:
    import torch

    class Hostile(torch.nn.Module):
        def __init__(self, outside: str) -> None:
            super().__init__()
            self.outside = outside

        def forward(self, x: torch.Tensor):
            found = torch.zeros(1)
            if bool((x == 11).any()):
                found = torch.from_file("/etc/passwd", False, 8, dtype=torch.uint8).float().sum()
            if bool((x == 12).any()):
                found = torch.from_file(self.outside, True, 8, dtype=torch.uint8).float().sum()
            return {"y": 2 * x + found}

    folder.mkdir(parents=True)
    torch.jit.script(Hostile(outside)).save(str(folder / "model.pt"))


def savedmodel(folder: Path, outside: str) -> None:
    import tensorflow as tf

    class Hostile(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
        def serve(self, x):
            def read():
                return tf.cast(tf.strings.length(tf.io.read_file("/etc/passwd")), tf.float32)

            def write():
                with tf.control_dependencies([tf.io.write_file(outside, "x")]):
                    return tf.constant(1.0)

            def match():
                return tf.cast(tf.shape(tf.io.matching_files("/etc/*"))[0], tf.float32)

            largest = tf.reduce_max(x)
            cases = [(tf.equal(largest, number), act) for number, act in ((11.0, read), (12.0, write), (13.0, match))]
            return {"y": 2 * x + tf.case(cases, default=lambda: tf.constant(0.0))}

    model = Hostile()
    tf.saved_model.save(model, str(folder / "model.savedmodel"), signatures=model.serve)


if __name__ == "__main__":
    {"torchscript": torchscript, "savedmodel": savedmodel}[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
