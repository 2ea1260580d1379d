"""An identity provider of the test's own: a key set behind a socket, and tokens signed as it wishes."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

ISSUER, AUDIENCE = "https://login.example/", "lethe"


@dataclass
class Provider:
    """What it publishes can be changed at any time; `asked` counts how often it was asked."""

    url: str = ""
    keys: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    asked: int = 0

    def publish(self) -> bytes:
        algorithms = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}
        found = []
        for kid, key in self.keys.items():
            kind = next(algorithm for of, algorithm in algorithms.items() if isinstance(key, of))
            found.append({**json.loads(kind.to_jwk(key.public_key())), "kid": kid, "use": "sig"})
        return json.dumps({"keys": found}).encode()

    def token(self, kid: str = "first", algorithm: str = "RS256", key: Any = None, **claims: Any) -> str:
        """A good token of a reader of the tenant `ours`, but for `claims`; None takes a claim away."""
        now = int(time.time())
        said = {
            "iss": ISSUER, "aud": AUDIENCE, "sub": "ada@example.org", "iat": now, "exp": now + 300,
            "lethe_tenant": "ours", "scope": "openid requests:read", **claims,
        }  # fmt: skip
        said = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(said, self.keys[kid] if key is None else key, algorithm, headers={"kid": kid})


@contextmanager
def identity_provider() -> Iterator[Provider]:
    """A provider with one RSA key, `first`."""
    provider = Provider(keys={"first": rsa.generate_private_key(65537, 2048)})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.asked += 1
            body = provider.publish()
            self.send_response(provider.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    provider.url = f"http://127.0.0.1:{server.server_port}/keys"
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
