"""The custom operators of onnxruntime-extensions, if the environment has them: see [extras] in runtime.toml."""

import onnxruntime as ort


def register_operators(settings: ort.SessionOptions) -> None:
    """Add them to a session. Their library is small, and models without them are not affected."""
    try:
        from onnxruntime_extensions import get_library_path
    except ImportError:
        return
    settings.register_custom_ops_library(get_library_path())
