"""redis-cli: one command on each of many connections, and a few connections that live on.

What a connection that lives on has written is only known to its own instance, so each look at it
says whether it is still there. Arguments: the address of the door.
"""
import subprocess
import sys
import threading
import time

from tally import Tally

LONG = 4
PAUSE = 0.05

tally = Tally()


def version_of(lines):
    """The version is in a setting that does nothing here."""
    return f"v{int(lines[1]) - 1000}"


def short(command):
    while not tally.stopping.is_set():
        ran = subprocess.run([*command, "CONFIG", "GET", "maxclients"], capture_output=True, text=True)
        try:
            tally.good("connection", version_of(ran.stdout.splitlines()))
        except (IndexError, ValueError):
            tally.bad("connection", f"{ran.stdout!r} {ran.stderr!r}")
        time.sleep(PAUSE)


def long(command, number):
    """One connection after the other, each as long as it is let."""
    count = 0
    while not tally.stopping.is_set():
        count += 1
        stay(command, f"key-{number}-{count}")


def stay(command, key):
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, bufsize=1)

    def ask(text, lines):
        client.stdin.write(text + "\n")
        client.stdin.flush()
        return [client.stdout.readline().strip() for _ in range(lines)]

    version = None
    try:
        version = version_of(ask("CONFIG GET maxclients", 2))
        if ask(f"SET {key} here", 1) != ["OK"]:
            raise ValueError("it was not written")
        while not tally.stopping.is_set():
            time.sleep(PAUSE)
            said = ask(f"GET {key}", 1)
            if said != ["here"]:
                # redis-cli connects again by itself, and is then with another instance.
                tally.cut("long connection", version)
                return
            tally.good("long connection", version)
    except (OSError, IndexError, ValueError) as error:
        if version is None:
            tally.bad("long connection", repr(error))
        else:
            tally.cut("long connection", version)
    finally:
        client.stdin.close()
        client.wait()


def main():
    host, port = sys.argv[1].rsplit(":", 1)
    command = ["redis-cli", "-h", host, "-p", port]
    threads = [threading.Thread(target=short, args=[command])]
    threads += [threading.Thread(target=long, args=[command, number]) for number in range(LONG)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tally.end()


main()
