"""Texts → rows of token ids, as long as the longest text. The tokenizer is that of tokenizer.json."""

import os

import numpy as np
from tokenizers import Tokenizer

from modelport import InvalidInput


class Model:
    def load(self, context):
        self.tokenizer = Tokenizer.from_file(os.path.join(context.folder, "tokenizer.json"))
        self.tokenizer.enable_padding()
        self.tokenizer.enable_truncation(max_length=256)

    def predict(self, text: "BYTES[-1]") -> {"input_ids": "INT64[-1, -1]", "attention_mask": "INT64[-1, -1]"}:
        try:
            texts = [each.decode() for each in text]
        except UnicodeDecodeError:
            raise InvalidInput("a text is not UTF-8: encode it") from None
        found = self.tokenizer.encode_batch(texts)
        rows = {"input_ids": [each.ids for each in found], "attention_mask": [each.attention_mask for each in found]}
        return {name: np.array(values, np.int64).reshape(len(texts), -1) for name, values in rows.items()}
