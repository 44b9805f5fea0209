"""What a Prometheus sees of its targets: the versions that are there, and every scrape that failed.

Arguments: its address.
"""
import json
import sys
import urllib.parse
import urllib.request

from tally import Tally

# Time between two looks, which is also that between its scrapes.
LOOK = 1

tally = Tally()
told = set()


def query(address, text):
    query = urllib.parse.urlencode({"query": text})
    with urllib.request.urlopen(f"http://{address}/api/v1/query?{query}", timeout=10) as answer:
        return json.load(answer)["data"]["result"]


def main():
    address = sys.argv[1]
    ready = False
    while not tally.stopping.wait(LOOK):
        try:
            for series in query(address, "version_info"):
                ready = True
                tally.good("prometheus", series["metric"]["version"])
            # Every sample that there ever was, with its time.
            for series in query(address, "up[10m]"):
                instance = series["metric"]["instance"]
                for at, value in series["values"]:
                    if value != "1" and (instance, at) not in told:
                        told.add((instance, at))
                        tally.bad("prometheus", f"{instance} was down at {at}")
        except (OSError, ValueError) as error:
            # Before that it has only just been started.
            if ready:
                tally.bad("prometheus", repr(error))
    tally.end()


main()
