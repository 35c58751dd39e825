"""Other names of DL4J's classes: the tags of files written before 1.0.0-beta3 (LegacyJsonFormat), and aliases."""

LAYERS = {
    "autoEncoder": "AutoEncoder",
    "convolution": "ConvolutionLayer",
    "convolution1d": "Convolution1DLayer",
    "gravesLSTM": "GravesLSTM",
    "gravesBidirectionalLSTM": "GravesBidirectionalLSTM",
    "output": "OutputLayer",
    "rnnoutput": "RnnOutputLayer",
    "loss": "LossLayer",
    "dense": "DenseLayer",
    "subsampling": "SubsamplingLayer",
    "subsampling1d": "Subsampling1DLayer",
    "batchNormalization": "BatchNormalization",
    "localResponseNormalization": "LocalResponseNormalization",
    "embedding": "EmbeddingLayer",
    "activation": "ActivationLayer",
    "dropout": "DropoutLayer",
    "GlobalPooling": "GlobalPoolingLayer",
    "zeroPadding": "ZeroPaddingLayer",
    "zeroPadding1d": "ZeroPadding1DLayer",
    "ElementWiseMult": "ElementWiseMultiplicationLayer",
}
PREPROCESSORS = {
    "cnnToFeedForward": "CnnToFeedForwardPreProcessor",
    "cnnToRnn": "CnnToRnnPreProcessor",
    "composableInput": "ComposableInputPreProcessor",
    "feedForwardToCnn": "FeedForwardToCnnPreProcessor",
    "feedForwardToRnn": "FeedForwardToRnnPreProcessor",
    "rnnToFeedForward": "RnnToFeedForwardPreProcessor",
    "rnnToCnn": "RnnToCnnPreProcessor",
}
# In lower case and without the prefix "Activation", the form to which the names of all versions are normalized.
ACTIVATIONS = {"leakyrelu": "lrelu"}
# Subclasses that compute the same as their parents.
ALIASES = {
    "Convolution2D": "ConvolutionLayer",
    "Convolution1D": "Convolution1DLayer",
    "Pooling2D": "SubsamplingLayer",
    "Pooling1D": "Subsampling1DLayer",
}
