"""Keys and JSON Web Tokens as an issuer makes them."""

import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER, AUDIENCE = "https://issuer.example", "modelport"


class Issuer:
    """One key and its public part, as in a JSON Web Key Set. An RSA key takes a tenth of a second."""

    def __init__(self, kid: str, algorithm: str = "ES256") -> None:
        self.kid, self.algorithm = kid, algorithm
        self.key: Any
        if algorithm.startswith("ES"):
            self.key = ec.generate_private_key(ec.SECP256R1())
            public = ECAlgorithm.to_jwk(self.key.public_key())
        elif algorithm == "EdDSA":
            self.key = ed25519.Ed25519PrivateKey.generate()
            public = OKPAlgorithm.to_jwk(self.key.public_key())
        else:
            self.key = rsa.generate_private_key(65537, 2048)
            public = RSAAlgorithm.to_jwk(self.key.public_key())
        self.jwk: dict[str, Any] = {**json.loads(public), "kid": kid, "use": "sig"}

    def token(self, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """Return a token that is valid for a minute. None as the value of a claim leaves it out."""
        now = int(time.time())
        merged = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + 60, **claims}
        present = {name: value for name, value in merged.items() if value is not None}
        return jwt.encode(present, self.key, self.algorithm, {"kid": self.kid, **(headers or {})})


def key_set(*issuers: Issuer) -> bytes:
    return json.dumps({"keys": [issuer.jwk for issuer in issuers]}).encode()
