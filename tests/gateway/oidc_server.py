"""An OpenID Connect provider in a process of its own: authlib's protocol in a Flask app, with PKCE required, and two more doors for tests.

`python oidc_server.py PORT`. People sign in with their name and the password `secret`; their groups are in PEOPLE. `POST /control`
changes what it does next: `claims` over those of the next ID token, `thin` (groups by userinfo alone), `told` (claims over userinfo's),
`rotate` (a new key, the old one gone), `down` (503 to everything else). `POST /sign` signs `{header, claims}` with its key, or with
another's: `forged`.
"""

import os
import sys
import time
from types import SimpleNamespace
from typing import Any, ClassVar

PEOPLE = {"ada": ["gateway-admins"], "vic": ["gateway-viewers"], "tom": ["search-leads"], "nobody": ["cooks"]}
PASSWORD = "secret"
CLIENT, CLIENT_SECRET = "turnout", "turnout's own secret: 100 %"


def make_app(port: int) -> Any:
    from authlib.integrations.flask_oauth2 import AuthorizationServer
    from authlib.oauth2.rfc6749 import grants
    from authlib.oauth2.rfc6749.models import AuthorizationCodeMixin, ClientMixin
    from authlib.oauth2.rfc7636 import CodeChallenge
    from authlib.oidc.core import OpenIDCode
    from flask import Flask, Response, abort, jsonify, redirect, request
    from joserfc import jwt
    from joserfc.jwk import RSAKey

    issuer = f"http://127.0.0.1:{port}"
    app = Flask("oidc_server")
    state: Any = SimpleNamespace(
        key=RSAKey.generate_key(2048, {"use": "sig"}, auto_kid=True), claims={}, thin=False, told={}, down=False, codes={}, tokens={}
    )
    state.thin, state.told, state.down = False, {}, False
    state.asked = []  # paths, as they were asked for
    forger = RSAKey.generate_key(2048)

    class Client(ClientMixin):
        def get_client_id(self) -> str:
            return CLIENT

        def get_allowed_scope(self, scope: str) -> str:
            return scope

        def check_redirect_uri(self, uri: str) -> bool:
            return uri.startswith("http://127.0.0.1:") and uri.endswith("/auth/callback")

        def check_client_secret(self, secret: str) -> bool:
            return secret == CLIENT_SECRET

        def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
            return method == "client_secret_basic"

        def check_response_type(self, kind: str) -> bool:
            return kind == "code"

        def check_grant_type(self, kind: str) -> bool:
            return kind == "authorization_code"

    class Code(SimpleNamespace, AuthorizationCodeMixin):
        def get_redirect_uri(self) -> str:
            return self.redirect_uri

        def get_scope(self) -> str:
            return self.scope

        def get_nonce(self) -> str:
            return self.nonce

        def get_auth_time(self) -> int:
            return int(time.time())

        def get_acr(self) -> None:
            return None

        def get_amr(self) -> None:
            return None

    class Grant(grants.AuthorizationCodeGrant):
        TOKEN_ENDPOINT_AUTH_METHODS: ClassVar[list[str]] = ["client_secret_basic"]

        def save_authorization_code(self, code: str, asked: Any) -> None:
            data = asked.payload.data
            wanted = ("redirect_uri", "nonce", "code_challenge", "code_challenge_method")
            kept = {name: data.get(name) for name in wanted}
            state.codes[code] = Code(code=code, user=asked.user, scope=asked.payload.scope, **kept)

        def query_authorization_code(self, code: str, _: Any) -> Any:
            return state.codes.get(code)

        def delete_authorization_code(self, code: Any) -> None:
            del state.codes[code.code]

        def authenticate_user(self, code: Any) -> str:
            return code.user

    class Pkce(CodeChallenge):
        def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
            if grant.request.payload.data.get("code_challenge_method") != "S256":
                abort(400, "PKCE with S256 is required")
            super().validate_code_challenge(grant, redirect_uri)

    class OpenId(OpenIDCode):
        def exists_nonce(self, nonce: str, _: Any) -> bool:
            return any(code.nonce == nonce for code in state.codes.values())

        def resolve_client_private_key(self, _: Any) -> Any:
            return state.key

        def get_client_claims(self, _: Any) -> dict[str, Any]:
            return {"iss": issuer}

        def get_encode_header(self, _: Any) -> dict[str, Any]:
            return {"alg": "RS256", "kid": state.key.kid}

        def generate_user_info(self, user: str, _: str) -> dict[str, Any]:
            groups = {} if state.thin else {"groups": PEOPLE[user]}
            claims, state.claims = state.claims, {}
            return {"sub": user, "name": user.title(), **groups, **claims}

    def save_token(token: dict[str, Any], asked: Any) -> None:
        state.tokens[token["access_token"]] = asked.user

    server = AuthorizationServer(app, query_client=lambda id: Client() if id == CLIENT else None, save_token=save_token)
    server.register_grant(Grant, [OpenId(require_nonce=True), Pkce(required=True)])

    @app.before_request
    def down() -> Any:
        state.asked.append(request.path)
        return ("out of order", 503) if state.down and request.path != "/control" else None

    @app.get("/.well-known/openid-configuration")
    def discovery() -> Any:
        paths = {"authorization": "authorize", "token": "token", "userinfo": "userinfo", "end_session": "logout"}
        return jsonify(
            {"issuer": issuer, "jwks_uri": f"{issuer}/jwks", "code_challenge_methods_supported": ["S256"]}
            | {f"{name}_endpoint": f"{issuer}/{path}" for name, path in paths.items()}
        )

    @app.get("/jwks")
    def jwks() -> Any:
        unknown = {"kty": "AKP", "alg": "ML-DSA-44", "kid": "of tomorrow", "pub": "AAAA"}
        return jsonify({"keys": [unknown, state.key.as_dict(private=False)]})

    @app.get("/authorize")
    def form() -> Any:
        server.get_consent_grant(end_user=None)
        return '<form method="post"><input name="name"><input name="password" type="password"></form>'

    @app.post("/authorize")
    def signed_in() -> Any:
        name = request.form["name"]
        if name not in PEOPLE or request.form["password"] != PASSWORD:
            return "no", 403
        answer: Response = server.create_authorization_response(grant=server.get_consent_grant(end_user=name), grant_user=name)
        return answer

    @app.post("/token")
    def token() -> Any:
        return server.create_token_response()

    @app.get("/userinfo")
    def userinfo() -> Any:
        user = state.tokens[request.headers["authorization"].removeprefix("Bearer ")]
        return jsonify({"sub": user, "groups": PEOPLE[user], **state.told})

    @app.get("/logout")
    def logout() -> Any:
        return redirect(request.args["post_logout_redirect_uri"]) if request.args["client_id"] == CLIENT else abort(400)

    @app.post("/control")
    def control() -> Any:
        wanted = dict(request.json or {})
        if wanted.pop("rotate", False):
            state.key = RSAKey.generate_key(2048, {"use": "sig"}, auto_kid=True)
        for name, value in wanted.items():
            setattr(state, name, value)
        asked, state.asked = state.asked, []
        return jsonify({"asked": asked, "kid": state.key.kid, "public": state.key.as_pem(private=False).decode()})

    @app.post("/sign")
    def sign() -> Any:
        wanted = request.json or {}
        header = {"alg": "RS256", "kid": state.key.kid, **wanted.get("header", {})}
        now = int(time.time())
        claims = {"iss": issuer, "aud": CLIENT, "sub": "robot", "iat": now, "exp": now + 300, **wanted.get("claims", {})}
        claims = {name: value for name, value in claims.items() if value is not None}
        return jsonify(jwt.encode(header, claims, forger if wanted.get("forged") else state.key, algorithms=[header["alg"]]))

    return app


if __name__ == "__main__":
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"
    from werkzeug.serving import make_server

    serving = make_server("127.0.0.1", int(sys.argv[1]), make_app(int(sys.argv[1])))
    print("listens", flush=True)
    serving.serve_forever()
