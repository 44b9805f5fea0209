"""A receiver of news as somebody else would write it: checks who speaks, and writes down what."""

import hashlib
import hmac
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

PORT, KEY, BOOK = int(sys.argv[1]), open(sys.argv[2], "rb").read().strip(), sys.argv[3]


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if len(body) < length:
            return  # Whoever spoke has died meanwhile.
        signed = self.headers["X-Evenkeel-Timestamp"].encode() + b"." + body
        expected = "sha256=" + hmac.new(KEY, signed, hashlib.sha256).hexdigest()
        known = hmac.compare_digest(expected, self.headers["X-Evenkeel-Signature"])
        names = ["Event", "Delivery", "Timestamp"]
        line = {name.lower(): self.headers["X-Evenkeel-" + name] for name in names}
        line.update(known=known, path=self.path, body=json.loads(body))
        with open(BOOK, "a") as book:
            book.write(json.dumps(line) + "\n")
        self.send_response(204 if known else 401)
        self.end_headers()

    def log_message(self, *_):
        pass


HTTPServer(("127.0.0.1", PORT), Receiver).serve_forever()
