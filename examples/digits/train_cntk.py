"""A small convolutional network, trained with CNTK and saved in its v2 format."""

import cntk as C
import data
import numpy as np
from cntk.layers import Convolution2D, Dense, MaxPooling, Sequential


def main():
    C.cntk_py.set_fixed_random_seed(0)
    digits = data.load()
    image, label = C.input_variable(64, name="image"), C.input_variable(10)
    layers = Sequential(
        [
            Convolution2D((3, 3), 16, activation=C.relu, pad=True),
            MaxPooling((2, 2), strides=2),
            Convolution2D((3, 3), 16, activation=C.relu, pad=True),
            Dense(10),
        ]
    )
    logits = layers(C.reshape(image / 16, (1, 8, 8)))
    loss = C.cross_entropy_with_softmax(logits, label)
    # Adam as everybody else has it: CNTK's own defaults count by samples, and weigh down each step by momentum.
    whole = C.learners.IGNORE
    rate = C.learning_parameter_schedule(1e-2, minibatch_size=whole)
    momenta = [C.momentum_schedule(part, minibatch_size=whole) for part in (0.9, 0.999)]
    learner = C.adam(logits.parameters, rate, momenta[0], unit_gain=False, variance_momentum=momenta[1])
    trainer = C.Trainer(logits, (loss, None), [learner])
    right = np.eye(10, dtype=np.float32)[digits.train_label]
    for rows in data.batches(len(right), 64, epochs=40):
        trainer.train_minibatch({image: digits.train_image[rows], label: right[rows]})

    path = str(data.version_folder("digits_cntk") / "digits.model")
    C.softmax(logits, name="scores").save(path)
    saved = C.Function.load(path, device=C.device.cpu())
    data.record("digits_cntk", saved.eval({saved.arguments[0]: digits.heldout_image}))


if __name__ == "__main__":
    main()
