"""Calls of every shape on one channel of grpcio: single ones by the clock, streams without a pause.

Arguments: the address of the edge, the host of the route.
"""
import sys
import threading
import time

import grpc

from tally import Tally

TICKS = 10
TICK = 0.1
# Time between two single calls, whatever the one before takes.
PACE = 0.02
# Longer than anything that a release may make a call wait.
DEADLINE = 15

tally = Tally()


def guarded(kind, call):
    """Makes one call; who answered it."""
    try:
        version = call()
        tally.good(kind, version)
    except grpc.RpcError as error:
        tally.bad(kind, f"{error.code()}: {error.details()}")
    except ValueError as error:
        tally.bad(kind, str(error))


def version_of(answers, expected):
    """The one version that gave all of these answers, which are as expected."""
    parts = [answer.split(b" ", 1) for answer in answers]
    versions = {part[0] for part in parts}
    if len(versions) != 1 or [part[1] for part in parts] != expected:
        raise ValueError(f"answered {answers!r} for {expected!r}")
    return versions.pop().decode()


def messages(count):
    for number in range(count):
        yield b"m%d" % number
        time.sleep(TICK)


def repeat(kind, call):
    def run():
        while not tally.stopping.is_set():
            guarded(kind, call)
    return threading.Thread(target=run)


def main():
    target, host = sys.argv[1:]
    options = [("grpc.default_authority", host), ("grpc.enable_retries", 0)]
    channel = grpc.insecure_channel(target, options)
    unary = channel.unary_unary("/test.Echo/Unary")
    server_stream = channel.unary_stream("/test.Echo/ServerStream")
    client_stream = channel.stream_unary("/test.Echo/ClientStream")
    both_ways = channel.stream_stream("/test.Echo/BothWays")
    expected = [b"m%d" % number for number in range(TICKS)]

    def stream_down():
        answers = list(server_stream(b"down", timeout=DEADLINE))
        return version_of(answers, [b"down %d" % tick for tick in range(TICKS)])

    def stream_up():
        answer = client_stream(messages(TICKS), timeout=DEADLINE)
        return version_of([answer], [b",".join(expected)])

    def stream_both():
        return version_of(list(both_ways(messages(TICKS), timeout=DEADLINE)), expected)

    threads = [
        repeat("server stream", stream_down),
        repeat("server stream", stream_down),
        repeat("client stream", stream_up),
        repeat("both ways", stream_both),
    ]
    for thread in threads:
        thread.start()

    def answered(call):
        guarded("unary", lambda: version_of([call.result()], [b"ping"]))

    calls = threading.Semaphore(0)
    began = 0
    due = time.monotonic()
    while not tally.stopping.is_set():
        call = unary.future(b"ping", timeout=DEADLINE)
        began += 1
        call.add_done_callback(lambda it: (answered(it), calls.release()))
        due += PACE
        time.sleep(max(0, due - time.monotonic()))
    for _ in range(began):
        calls.acquire()
    for thread in threads:
        thread.join()
    tally.end()
    channel.close()


main()
