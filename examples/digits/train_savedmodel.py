"""A small convolutional network, trained with Keras and saved as a SavedModel without its optimizer."""

import shutil

import data
import tensorflow as tf


def main() -> None:
    tf.keras.utils.set_random_seed(0)
    digits = data.load()
    model = tf.keras.Sequential(
        [
            tf.keras.Input((64,), name="image"),
            tf.keras.layers.Rescaling(1 / 16),
            tf.keras.layers.Reshape((8, 8, 1)),
            tf.keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
            tf.keras.layers.MaxPooling2D(),
            tf.keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(tf.keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy")
    model.fit(digits.train_image, digits.train_label, batch_size=64, epochs=40, verbose=0)

    path = data.version_folder("digits_savedmodel") / "model.savedmodel"
    shutil.rmtree(path, ignore_errors=True)
    archive = tf.keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        name="serving_default",
        fn=lambda image: {"scores": model(image, training=False)},
        input_signature=[tf.TensorSpec([None, 64], tf.float32, name="image")],
    )
    archive.write_out(path, verbose=False)
    (path / "fingerprint.pb").unlink(missing_ok=True)  # differs with every run, and nothing reads it
    scores = tf.saved_model.load(path).signatures["serving_default"](image=tf.constant(digits.heldout_image))["scores"]
    data.record("digits_savedmodel", scores.numpy())


if __name__ == "__main__":
    main()
