"""Calls of every shape, by grpcio; each answer names the version."""
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc

VERSION = os.environ["VERSION"].encode()
TICKS = 10
TICK = 0.1
# A quarter of the ways that wait are streams.
WORKERS = 64
# How long calls may take that run when it is told to end.
GRACE = float(os.environ.get("GRACE", 10))


def unary(request, _context):
    return VERSION + b" " + request


def server_stream(request, _context):
    for tick in range(TICKS):
        yield VERSION + b" " + request + b" %d" % tick
        time.sleep(TICK)


def client_stream(requests, _context):
    return VERSION + b" " + b",".join(requests)


def both_ways(requests, _context):
    for request in requests:
        yield VERSION + b" " + request


def check(_request, _context):
    """grpc.health.v1.Health/Check: SERVING, as its message is on the wire."""
    return b"\x08\x01"


def main():
    server = grpc.server(ThreadPoolExecutor(WORKERS), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((
        grpc.method_handlers_generic_handler("test.Echo", {
            "Unary": grpc.unary_unary_rpc_method_handler(unary),
            "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
            "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
            "BothWays": grpc.stream_stream_rpc_method_handler(both_ways),
        }),
        grpc.method_handlers_generic_handler("grpc.health.v1.Health", {
            "Check": grpc.unary_unary_rpc_method_handler(check),
        }),
    ))
    server.add_insecure_port(f"127.0.0.1:{os.environ['PORT']}")
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    server.start()
    told.wait()
    server.stop(GRACE).wait()


main()
