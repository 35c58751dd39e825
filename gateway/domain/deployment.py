"""How a platform that runs a model in a container addresses this server."""

from typing import NamedTuple


class Deployment(NamedTuple):
    """What a platform has chosen.

    model          the model of requests to /invocations that name none; "" if there is only one
    sagemaker_models  the folder below which SageMaker's models are, if it loads them; "" if it does not
    predict_route  a path that answers as Vertex AI expects, and `health_route` one that reports readiness; "" for none
    """

    model: str = ""
    predict_route: str = ""
    health_route: str = ""
    sagemaker_models: str = ""
