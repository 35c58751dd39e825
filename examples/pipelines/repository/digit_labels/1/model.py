"""The most probable digit of each row of scores, and its probability."""


class Model:
    def predict(self, scores: "FP32[-1, 10]") -> {"digit": "BYTES[-1]", "confidence": "FP32[-1]"}:
        return {"digit": [str(best) for best in scores.argmax(axis=1)], "confidence": scores.max(axis=1)}
