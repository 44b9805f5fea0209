"""A service that keeps orders in a database, as somebody else would write it: for each page it writes
an order, changes one, and reads some. Knows its address and nothing else."""

import os
import queue
import random
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg

VERSION, SHAPE = os.environ["VERSION"], os.environ["SHAPE"]
PAGE = f"version={VERSION}\n{'.' * 2000}\nend\n".encode()
STATEMENTS = {
    "1": (
        "INSERT INTO orders (customer, amount, note) VALUES (%s, %s, 'x') RETURNING id",
        "UPDATE orders SET amount = amount + 1, note = %s WHERE id = %s",
        "SELECT * FROM orders WHERE id = %s",
        3,
    ),
    "2": (
        "INSERT INTO orders (customer, amount, remark, region) VALUES (%s, %s, 'x', 'east') "
        "RETURNING id",
        "UPDATE orders SET amount = amount + 1, remark = %s WHERE id = %s",
        "SELECT * FROM orders WHERE id = %s",
        4,
    ),
}
INSERT, UPDATE, SELECT, COLUMNS = STATEMENTS[SHAPE]
POOL = queue.SimpleQueue()


def connection():
    try:
        return POOL.get_nowait()
    except queue.Empty:
        return psycopg.connect(os.environ["MAIN_URL"], autocommit=True)


class Orders(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path != "/healthz":
            database = connection()
            customer = random.randrange(1000)
            order = database.execute(INSERT, (customer, customer)).fetchone()[0]
            database.execute(UPDATE, ("y", order))
            row = database.execute(SELECT, (order,)).fetchone()
            assert len(row) == COLUMNS + 1 and customer + 1 in row, row
            POOL.put(database)
        self.send_response(200)
        self.send_header("X-Version", VERSION)
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


Server(("127.0.0.1", int(os.environ["PORT"])), Orders).serve_forever()
