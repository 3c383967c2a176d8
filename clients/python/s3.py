"""A server of S3 by others (moto), in memory, with one bucket. It refuses a request whose signature
in the query is not that of AWS Signature Version 4, which is computed here anew:
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html

Prints its URL, and serves until it is killed."""

import hashlib
import hmac
import os
import sys
from urllib.parse import parse_qsl, quote

from moto.s3.models import s3_backends
from moto.core import DEFAULT_ACCOUNT_ID
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

ID, SECRET = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
REGION, TOKEN = os.environ["AWS_REGION"], os.environ["AWS_SESSION_TOKEN"]


def mac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def is_signed(environ):
    path, _, query = environ["RAW_URI"].partition("?")
    given = parse_qsl(query, keep_blank_values=True)
    fields = dict(given)
    names = fields.get("X-Amz-SignedHeaders", "").split(";")
    if "host" not in names or fields.get("X-Amz-Security-Token") != TOKEN:
        return False
    headers = "".join(
        f"{name}:{environ.get('HTTP_' + name.upper().replace('-', '_'), '').strip()}\n" for name in names
    )
    # What changes the meaning of a write must be signed.
    if environ["REQUEST_METHOD"] == "PUT" and "if-none-match" not in names:
        return False
    sorted_query = "&".join(
        sorted(
            f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
            for name, value in given
            if name != "X-Amz-Signature"
        )
    )
    method = environ["REQUEST_METHOD"]
    request = f"{method}\n{path}\n{sorted_query}\n{headers}\n{';'.join(names)}\nUNSIGNED-PAYLOAD"
    moment = fields.get("X-Amz-Date", "")
    scope = f"{moment[:8]}/{REGION}/s3/aws4_request"
    if fields.get("X-Amz-Credential") != f"{ID}/{scope}":
        return False
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = mac(mac(mac(mac(b"AWS4" + SECRET.encode(), moment[:8]), REGION), "s3"), "aws4_request")
    expected = mac(key, f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}").hex()
    return hmac.compare_digest(expected, fields.get("X-Amz-Signature", ""))


class Checked:
    def __init__(self, app):
        self.app = app

    def __call__(self, environ, start_response):
        if not is_signed(environ):
            start_response("403 Forbidden", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SignatureDoesNotMatch</Code></Error>"]
        return self.app(environ, start_response)


def main():
    s3_backends[DEFAULT_ACCOUNT_ID]["aws"].create_bucket("backups", REGION)
    app = Checked(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stderr = open(os.devnull, "w")
    server.serve_forever()


main()
