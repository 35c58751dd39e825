"""Make models of TensorFlow 1, with what TensorFlow itself computes: `PYTHON make_tensorflow1.py FOLDER`.

Runs in TensorFlow 1.15 with tensorflow_hub, and in the interface that TensorFlow 2 has for it. FOLDER gets
NAME.inputs.npz and NAME.expected.npz for each model, and a repository.
"""

import pathlib
import sys

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

v1 = tf.compat.v1
TRITON = """
platform: "tensorflow_graphdef"
max_batch_size: 8
input [ { name: "image" data_type: TYPE_FP32 dims: [ 8, 8, 1 ] } ]
output [
  { name: "scores" data_type: TYPE_FP32 dims: [ 3 ] },
  { name: "best:1" data_type: TYPE_INT32 dims: [ 1 ] }
]
"""
HUB_FORMAT_3 = b"\x08\x03"
IMAGES = np.random.RandomState(1).uniform(size=(5, 8, 8, 1)).astype("f4")
ROWS = np.float32([[1, 0], [2, 3]])


def initial(name, *shape):
    values = np.random.RandomState(len(name)).normal(size=shape).astype("f4") / 3
    return v1.get_variable(name, initializer=values, use_resource=False)


def pictures():
    """A convolutional network, in which a request may say how much of a layer is kept."""
    image = v1.placeholder(tf.float32, [None, 8, 8, 1], "image")
    keep = v1.placeholder_with_default(tf.constant(1.0), [], "keep")
    maps = tf.nn.relu(tf.nn.conv2d(image, initial("kernel", 3, 3, 1, 4), strides=[1, 1, 1, 1], padding="SAME"))
    flat = tf.reshape(tf.nn.max_pool(maps, [1, 2, 2, 1], [1, 2, 2, 1], "VALID"), [-1, 64])
    tf.nn.top_k(tf.nn.softmax(tf.matmul(flat * keep, initial("weight", 64, 3)), name="scores"), 1, name="best")


def words():
    word = v1.placeholder(tf.string, [None], "word")
    rows = tf.lookup.KeyValueTensorInitializer(["red", "green"], [1, 2], tf.string, tf.int64)
    tf.identity(tf.lookup.StaticHashTable(rows, -1).lookup(word), name="number")


def sums():
    x = v1.placeholder(tf.float32, [None, 2], "x")
    return x, tf.matmul(x, initial("slope", 2, 1))


class Made:
    """A session with the default graph."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.graph = v1.get_default_graph()
        self.session = v1.Session()
        self.session.run([v1.global_variables_initializer(), v1.tables_initializer()])

    def version(self, model):
        folder = self.folder / "repository" / model / "1"
        folder.parent.mkdir(parents=True)
        return folder

    def freeze(self, model, file, node):
        fills = [each.name for each in self.graph.get_collection(v1.GraphKeys.TABLE_INITIALIZERS)]
        frozen = v1.graph_util.convert_variables_to_constants(self.session, self.graph.as_graph_def(), [node, *fills])
        folder = self.version(model)
        folder.mkdir()
        (folder / file).write_bytes(frozen.SerializeToString())

    def write(self, name, inputs, outputs, **left_out):
        """Write a request, and what the session computes for it. left_out: what the model has a default value for"""
        results = self.session.run(outputs, {key + ":0": value for key, value in dict(inputs, **left_out).items()})
        as_bytes = {key: value.astype("S") if value.dtype == object else value for key, value in inputs.items()}
        np.savez(str(self.folder / (name + ".inputs.npz")), **as_bytes)
        np.savez(str(self.folder / (name + ".expected.npz")), **results)


def write_frozen(folder):
    with tf.Graph().as_default():
        pictures()
        made = Made(folder)
        made.freeze("triton", "model.graphdef", "best")
        (made.folder / "repository" / "triton" / "config.pbtxt").write_text(TRITON)
        made.write("triton", {"image": IMAGES}, {"scores": "scores:0", "best:1": "best:1"})
        made.freeze("found", "frozen_inference_graph.pb", "best")
        made.write("found", {"image": IMAGES, "keep": np.float32(0.5)}, {"best": "best:0", "best:1": "best:1"})
    with tf.Graph().as_default():
        words()
        made = Made(folder)
        made.freeze("words", "words.pb", "number")
        made.write("words", {"word": np.array([b"green", b"blue"], object)}, {"number": "number:0"})


def write_saved(folder):
    """A SavedModel as text, one of whose outputs is sparse, and another one complex."""
    with tf.Graph().as_default():
        x, y = sums()
        scale = v1.placeholder(tf.float32, [], "scale")
        places = tf.sparse.from_dense(x)
        outputs = {"y": y * scale, "places": places, "wave": tf.cast(x, tf.complex64)}
        made = Made(folder)
        infos = [
            {key: v1.saved_model.build_tensor_info(tensor) for key, tensor in tensors.items()}
            for tensors in ({"x": x, "scale": scale}, outputs)
        ]
        signature = v1.saved_model.build_signature_def(*infos, method_name="tensorflow/serving/predict")
        inputs = {"x": ROWS, "scale": np.float32(4)}
        if "defaults" in signature.DESCRIPTOR.fields_by_name:
            signature.defaults["scale"].CopyFrom(v1.make_tensor_proto(inputs.pop("scale")))
        builder = v1.saved_model.Builder(str(made.version("text")))
        builder.add_meta_graph_and_variables(made.session, ["serve"], {"serving_default": signature})
        builder.save(as_text=True)
        parts = {"places." + part: getattr(places, part) for part in ("indices", "values", "dense_shape")}
        made.write("text", inputs, dict(parts, y=outputs["y"]), scale=np.float32(4))


def write_hub(folder):
    """A module of TF Hub's first format, whose graph for inference has no tags."""
    with tf.Graph().as_default():
        if tf.__version__.startswith("1."):
            import tensorflow_hub

            def module():
                x, y = sums()
                tensorflow_hub.add_signature(inputs={"x": x}, outputs={"y": y})

            made_module = tensorflow_hub.Module(tensorflow_hub.create_module_spec(module))
            x = v1.placeholder(tf.float32, [None, 2], "x")
            y = made_module({"x": x}, as_dict=True)["y"]
            made = Made(folder)
            path = made.version("hub")
            made_module.export(str(path), made.session)
        else:
            x, y = sums()
            made = Made(folder)
            path = made.version("hub")
            builder = v1.saved_model.Builder(str(path))
            signature = v1.saved_model.predict_signature_def({"x": x}, {"y": y})
            builder.add_meta_graph_and_variables(made.session, ["none"], {"default": signature})
            builder.save()
            file = path / "saved_model.pb"
            written = saved_model_pb2.SavedModel.FromString(file.read_bytes())
            del written.meta_graphs[0].meta_info_def.tags[:]
            file.write_bytes(written.SerializeToString())
            (path / "tfhub_module.pb").write_bytes(HUB_FORMAT_3)
        made.write("hub", {"x": ROWS}, {"y": y})


if __name__ == "__main__":
    for write in (write_frozen, write_saved, write_hub):
        write(sys.argv[1])
