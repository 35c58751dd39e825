"""Make a frozen graph of TensorFlow, and what TensorFlow computes with it: `PYTHON make_frozen.py FOLDER`."""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

folder, row = Path(sys.argv[1]), np.ones((2, 4), np.float32)
graph = tf.Graph()
with graph.as_default(), tf.compat.v1.Session(graph=graph) as session:
    x = tf.compat.v1.placeholder(tf.float32, [None, 4], name="x")
    weight = tf.constant(np.arange(12, dtype=np.float32).reshape(4, 3) / 10)
    probabilities = tf.identity(tf.nn.softmax(x @ weight), name="probabilities")
    (folder / "frozen_graph.pb").write_bytes(graph.as_graph_def().SerializeToString())
    np.save(folder / "frozen.npy", session.run(probabilities, {x: row}))
