"""curl, again and again, with many transfers at a time, in each way it speaks HTTP.

Arguments: the edge's address without TLS, the port with it, the certificate's file.
"""
import subprocess
import sys
import threading

from tally import Tally

HOST = "house.test"
# Transfers of one run of curl, and how many of them at a time if they share connections.
PAGES = 20
STREAMS = 4
AT_A_TIME = 10
# Time between two runs.
PAUSE = 0.3
# What curl says of each transfer.
SAYS = "%{exitcode} %{http_code} %{http_version} %header{x-version} %{size_download} %{errormsg}\\n"

tally = Tally()


def transfers(kind, version, options, base):
    """Runs curl until it is enough."""
    urls = [f"{base}/page?[1-{PAGES}]", f"{base}/stream?count=5&every=40&n=[1-{STREAMS}]"]
    command = ["curl", "--silent", "--parallel", "--parallel-max", str(AT_A_TIME),
               "--max-time", "15", "--write-out", SAYS, *options]
    for url in urls:
        command += ["--output", "/dev/null", url]
    while not tally.stopping.is_set():
        ran = subprocess.run(command, capture_output=True, text=True)
        tally.stopping.wait(PAUSE)
        lines = ran.stdout.splitlines()
        for line in lines:
            code, status, spoken, by, size = (line.split(" ", 5) + [""] * 5)[:5]
            # A page says which version it is and is as long as that; so is a stream.
            whole = int(size or 0) in (2014 + len(by), 5 * (11 + len(by)))
            if (code, status, spoken) == ("0", "200", version) and whole:
                tally.good(kind, by)
            else:
                tally.bad(kind, line)
        if len(lines) != PAGES + STREAMS:
            tally.bad(kind, f"{len(lines)} transfers were told of")


def main():
    plain, port, certificate = sys.argv[1:]
    at = ["--connect-to", f"{HOST}:80:{plain}"]
    tls = ["--connect-to", f"{HOST}:443:127.0.0.1:{port}", "--cacert", certificate]
    ways = [
        ("curl HTTP/1.1", "1.1", ["--http1.1", *at], f"http://{HOST}"),
        # Each on its own connection: curl 7.88 cannot use one twice that began with HTTP/2.
        ("curl h2c", "2", ["--http2-prior-knowledge", "--parallel-immediate", "--parallel-max",
                           str(PAGES + STREAMS), *at], f"http://{HOST}"),
        ("curl HTTP/2 TLS", "2", ["--http2", *tls], f"https://{HOST}"),
        ("curl HTTP/1.1 TLS", "1.1", ["--http1.1", *tls], f"https://{HOST}"),
    ]
    threads = [threading.Thread(target=transfers, args=way) for way in ways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tally.end()


main()
