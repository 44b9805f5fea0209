"""A client of Consul's (py-consul) that waits for news of `web`, and asks its instances by itself.

Arguments: the port of Consul's API.
"""
import http.client
import random
import sys
import threading
import time

import consul

from tally import Tally

# Time between two requests of one thread, whatever the one before takes.
PACE = 0.05
PATIENCE = 10
# How long one question waits for news.
WAIT = "3s"
WAIT_LEAST = 2.9

tally = Tally()
known = threading.Event()
addresses = []


def watch(port):
    """Waits for news without end. An index never goes back, and one that stays says the same."""
    client = consul.Consul(port=port)
    index, said = None, None
    while not tally.stopping.is_set():
        asked = time.monotonic()
        try:
            next_index, entries = client.health.service("web", passing=True, index=index, wait=WAIT)
        except Exception as error:  # Whatever it is, it must not come of a release.
            tally.bad("watch", repr(error))
            time.sleep(PACE)
            continue
        now = sorted((it["Service"]["Address"] or it["Node"]["Address"], it["Service"]["Port"])
                     for it in entries)
        next_index = int(next_index)
        if index is not None and next_index < index:
            tally.bad("watch", f"from {index} back to {next_index}")
        if index == next_index and now != said:
            tally.bad("watch", f"{index} says {now} after {said}")
        # Sent away before its time, by an edge that another one has followed.
        early = index == next_index and time.monotonic() - asked < WAIT_LEAST
        index, said = next_index, now
        addresses[:] = now
        if now:
            known.set()
        # It lives long: whom it meets is not counted by version.
        tally.good("long watch", "sent away" if early else "answered")


def requests():
    known.wait()
    due = time.monotonic()
    while not tally.stopping.is_set():
        address = random.choice(list(addresses) or [None])
        try:
            if address is None:
                raise ValueError("nobody is passing")
            connection = http.client.HTTPConnection(*address, timeout=PATIENCE)
            connection.request("POST", "/echo", body=b"direct")
            response = connection.getresponse()
            if response.status != 200 or response.read() != b"direct":
                raise ValueError(f"{response.status}")
            tally.good("py-consul", response.getheader("x-version"))
            connection.close()
        except (OSError, http.client.HTTPException, ValueError) as error:
            tally.bad("py-consul", f"{address}: {error!r}")
        due += PACE
        time.sleep(max(0, due - time.monotonic()))


def main():
    threads = [threading.Thread(target=watch, args=(int(sys.argv[1]),))]
    threads += [threading.Thread(target=requests) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tally.end()


main()
