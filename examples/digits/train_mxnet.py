"""A small convolutional network, trained with MXNet's Gluon and saved as symbol and parameters.

These files record neither shapes nor meaningful names; model.toml declares both.
"""

import data
import mxnet as mx
from mxnet import autograd, gluon
from mxnet.gluon import nn


class Digits(gluon.HybridBlock):
    def __init__(self):
        super().__init__()
        self.layers = nn.HybridSequential()
        self.layers.add(
            nn.Conv2D(16, 3, padding=1, activation="relu"),
            nn.MaxPool2D(2),
            nn.Conv2D(16, 3, padding=1, activation="relu"),
            nn.Flatten(),
            nn.Dense(10),
        )

    def hybrid_forward(self, F, image):
        return F.softmax(self.layers(F.reshape(image / 16, shape=(-1, 1, 8, 8))), axis=1)


def main():
    mx.random.seed(0)
    digits = data.load()
    image, label = mx.nd.array(digits.train_image), mx.nd.array(digits.train_label)
    model = Digits()
    model.initialize(mx.init.Xavier())
    trainer = gluon.Trainer(model.collect_params(), "adam", {"learning_rate": 2e-3})
    for rows in data.batches(len(label), 64, epochs=40):
        with autograd.record():
            scores = model(image[rows])
            loss = -mx.nd.log(mx.nd.pick(scores, label[rows]) + 1e-9).mean()
        loss.backward()
        trainer.step(1)

    prefix = str(data.version_folder("digits_mxnet") / "digits")
    symbol = model(mx.sym.Variable("image"))
    symbol.save(prefix + "-symbol.json")
    parameters = {"arg:" + name: value.data() for name, value in model.collect_params().items()}
    mx.nd.save(prefix + "-0000.params", parameters)
    saved = gluon.SymbolBlock.imports(prefix + "-symbol.json", ["image"], prefix + "-0000.params")
    data.record("digits_mxnet", saved(mx.nd.array(digits.heldout_image)).asnumpy())


if __name__ == "__main__":
    main()
