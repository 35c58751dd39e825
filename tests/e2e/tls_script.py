"""Run a client over TLS against a gateway that serves the fake model `m` (y = 2x), in the client's environment.

Usage: tls_script.py CLIENT URL CA CERT KEY, where CLIENT is tritonclient or kserve, and URL is HOST:PORT. The clients
are unmodified; a failed assertion is a failure.
"""

import asyncio
import ssl
import sys

import numpy as np

CLIENT, URL, CA, CERT, KEY = sys.argv[1:]
# Large enough for the gateway to receive it directly into shared memory.
X = np.linspace(0, 1, 1 << 16, dtype=np.float32).reshape(16, -1)


def context(with_certificate: bool = True) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=CA)
    if with_certificate:
        made.load_cert_chain(CERT, KEY)
    return made


async def tritonclient_aio() -> None:
    import tritonclient.http.aio as triton

    async with triton.InferenceServerClient(URL, ssl=True, ssl_context=context()) as client:
        assert await client.is_server_ready()
        tensor = triton.InferInput("x", X.shape, "FP32").set_data_from_numpy(X)
        answer = await client.infer("m", [tensor])
        assert np.array_equal(answer.as_numpy("y"), 2 * X)


def tritonclient() -> None:
    import tritonclient.http as triton

    options = {"ca_certs": CA, "certfile": CERT, "keyfile": KEY}
    with triton.InferenceServerClient(URL, ssl=True, ssl_options=options, concurrency=2) as client:
        assert client.is_server_ready()
        for binary in (True, False):
            tensor = triton.InferInput("x", X.shape, "FP32")
            tensor.set_data_from_numpy(X, binary_data=binary)
            pending = [client.async_infer("m", [tensor]) for _ in range(4)]
            for each in pending:
                assert np.array_equal(each.get_result().as_numpy("y"), 2 * X)
    asyncio.run(tritonclient_aio())
    with triton.InferenceServerClient(URL, ssl=True, ssl_options={"ca_certs": CA}) as client:
        try:
            client.is_server_ready()
        except Exception as error:
            assert "CERTIFICATE_REQUIRED" in str(error), error
        else:
            raise AssertionError("served without a certificate")


async def kserve() -> None:
    from kserve import InferenceRESTClient, RESTConfig
    from kserve.protocol.infer_type import InferInput, InferRequest

    client = InferenceRESTClient(RESTConfig(protocol="v2", verify=context()))
    assert await client.is_server_ready(f"https://{URL}")
    for binary in (True, False):
        tensor = InferInput("x", list(X.shape), "FP32")
        tensor.set_data_from_numpy(X, binary_data=binary)
        answer = await client.infer(f"https://{URL}", InferRequest("m", [tensor]), model_name="m")
        assert np.array_equal(answer.outputs[0].as_numpy(), 2 * X)
    await client.close()
    refused = InferenceRESTClient(RESTConfig(protocol="v2", verify=context(False), retries=0))
    try:
        await refused.is_server_ready(f"https://{URL}")
    except Exception as error:
        assert "certificate required" in str(error) or "CERTIFICATE_REQUIRED" in str(error), repr(error)
    else:
        raise AssertionError("served without a certificate")


if CLIENT == "tritonclient":
    tritonclient()
else:
    asyncio.run(kserve())
print("all of it worked")
