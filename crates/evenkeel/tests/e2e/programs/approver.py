"""The webhook of a gate as somebody else would write it: knows who asks, writes down what, and gives
one answer after the other, each a line of a file: a status, and maybe a body."""

import hashlib
import hmac
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

PORT, KEY = int(sys.argv[1]), open(sys.argv[2], "rb").read().strip()
ANSWERS, BOOK = iter(open(sys.argv[3]).read().splitlines()), sys.argv[4]


class Approver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        signed = self.headers["X-Evenkeel-Timestamp"].encode() + b"." + body
        expected = "sha256=" + hmac.new(KEY, signed, hashlib.sha256).hexdigest()
        known = hmac.compare_digest(expected, self.headers["X-Evenkeel-Signature"])
        event, delivery = self.headers["X-Evenkeel-Event"], self.headers["X-Evenkeel-Delivery"]
        line = {"known": known, "path": self.path, "event": event, "delivery": delivery}
        status, _, answer = (next(ANSWERS) if known else "401 ").partition(" ")
        self.send_response(int(status))
        if status != "204":
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())
        with open(BOOK, "a") as book:
            book.write(json.dumps({**line, "body": json.loads(body)}) + "\n")

    def log_message(self, *_):
        pass


HTTPServer(("127.0.0.1", PORT), Approver).serve_forever()
