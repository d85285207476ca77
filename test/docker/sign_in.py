"""A home directory in which the AWS CLI is signed in, and the services from which the CLI renews expired credentials."""

import hashlib
import http.server
import json
import os
import subprocess
import threading
import time

from instance import AWS_ADDRESS

SSO = "my-sso"
SESSION = {"sso": "corp", "login": "arn:aws:sts::123456789012:assumed-role/Developer/me"}
BEGIN = {
    "sso": f"[sso-session {SESSION['sso']}]\nsso_start_url = https://corp.awsapps.com/start\nsso_region = us-east-1\n"
           "sso_registration_scopes = sso:account:access\n"
           f"[profile {SSO}]\nsso_session = {SESSION['sso']}\nsso_account_id = 123456789012\nsso_role_name = Developer\n",
    "login": f"[profile {SSO}]\nlogin_session = {SESSION['login']}\n",
}
OVER, VALID = "2026-01-01T00:00:00Z", "2099-01-01T00:00:00Z"


class SignInServices:
    """Plays three AWS services that renew a signed-in user's tokens and credentials: OpenID Connect, access portal, sign-in."""

    def __init__(self, aws, credential):
        self.requests = []  # the paths
        requests = self.requests
        keys = {"accessKeyId": credential["AccessKeyId"], "secretAccessKey": credential["SecretAccessKey"], "sessionToken": credential["Token"]}
        portal = {"roleCredentials": {**keys, "expiration": int((time.time() + 3600) * 1000)}}
        answers = {
            "/token": ({"accessToken": "renewed", "refreshToken": "next", "tokenType": "Bearer", "expiresIn": 3600}, None, None),
            "/federation/credentials": (portal, "x-amz-sso_bearer_token", "renewed"),
            "/v1/token": ({"accessToken": keys, "refreshToken": "next", "tokenType": "aws_sigv4", "expiresIn": 900}, None, None),
        }

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                path = self.path.partition("?")[0]
                requests.append(path)
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                body, header, value = answers[path]
                allowed = header is None or self.headers[header] == value
                body = json.dumps(body).encode() if allowed else b"{}"
                self.send_response(200 if allowed else 401)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        with aws:
            self._server = http.server.ThreadingHTTPServer((AWS_ADDRESS, 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        endpoint = f"http://{AWS_ADDRESS}:{self._server.server_port}"
        self.variables = {f"AWS_ENDPOINT_URL_{service}": endpoint for service in ("SSO", "SSO_OIDC", "SIGNIN")}

    def close(self):
        self._server.shutdown()
        self._server.server_close()


def sign_in(home, kind, line):
    """Writes the files of an `aws sso login` or `aws login` of some hours ago: the access token has expired, and the refresh
    token is still valid."""
    registration = {"clientId": "ec2-role", "refreshToken": "refresh"}
    if kind == "sso":
        kept, name = "sso", hashlib.sha1
        token = {"startUrl": "https://corp.awsapps.com/start", "region": "us-east-1", "accessToken": "old", "expiresAt": OVER,
                 "clientSecret": "secret", "registrationExpiresAt": VALID}
    else:
        kept, name = "login", hashlib.sha256
        key = subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout"], capture_output=True, text=True, check=True)
        token = {"tokenType": "aws_sigv4", "dpopKey": key.stdout, "accessToken": {
            "accessKeyId": "OLD", "secretAccessKey": "old", "sessionToken": "old", "accountId": "123456789012", "expiresAt": OVER}}
    cache = home / ".aws" / kept / "cache"
    cache.mkdir(parents=True)
    file = cache / f"{name(SESSION[kind].encode()).hexdigest()}.json"
    file.write_text(json.dumps({**registration, **token}))
    (home / ".aws/config").write_text(f"{BEGIN[kind]}region = us-east-1\n{line}")
    for path in (home / ".aws", *(home / ".aws").rglob("*")):
        os.chown(path, 1000, 1000)
