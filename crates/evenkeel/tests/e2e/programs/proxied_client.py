"""Requests without end by way of each of several proxies, on one connection and on new ones.

Arguments: for each proxy its name and address, as in `haproxy=127.0.0.1:8080`.
"""
import http.client
import sys
import threading
import time

from tally import Tally

# Time between two requests of one thread, whatever the one before takes.
PACE = 0.05
# Longer than anything that a release may make a request wait.
PATIENCE = 10
BODY = b"as it was sent"
HOST = {"Host": "web.house.internal"}

tally = Tally()


def ask(connection, turn):
    """One request; who answered it. Every second one must not be repeated by anyone."""
    if turn % 2:
        connection.request("POST", "/echo", body=BODY, headers=HOST)
    else:
        connection.request("GET", "/page", headers=HOST)
    response = connection.getresponse()
    body = response.read()
    version = response.getheader("x-version")
    whole = body == BODY if turn % 2 else len(body) == 2014 + len(version or "")
    if response.status != 200 or not version or not whole:
        raise ValueError(f"{response.status}, {len(body)} bytes: {body[:80]!r}")
    return version


def requests(name, address, keep):
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    turn = 0
    due = time.monotonic()
    while not tally.stopping.is_set():
        turn += 1
        try:
            tally.good(name, ask(connection, turn))
        except (OSError, http.client.HTTPException, ValueError) as error:
            tally.bad(name, f"{'POST' if turn % 2 else 'GET'}: {error!r}")
            connection.close()
        if not keep:
            connection.close()
        due += PACE
        time.sleep(max(0, due - time.monotonic()))
    connection.close()


def main():
    proxies = [argument.split("=", 1) for argument in sys.argv[1:]]
    threads = [
        threading.Thread(target=requests, args=(name, address, keep))
        for name, address in proxies for keep in (True, False)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tally.end()


main()
