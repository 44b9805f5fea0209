"""WebSockets by the library `websockets`: some that live for ever, and some for a second.

One that is ended from outside, in the middle of its life, is told as cut, if it was told so itself (close
code 1001); whoever reads this knows when that is allowed. Arguments: the address of the edge, the host of the route.
"""
import asyncio
import sys

import websockets
from websockets.asyncio.client import connect

from tally import Tally

LONG = 6
SHORT = 3
PAUSE = 0.1
# Messages of one that lives for a second.
MESSAGES = 10

tally = Tally()


async def talk(kind, url, address, most):
    """One connection, until it has sent so many messages, or as long as it lasts."""
    host, port = address.rsplit(":", 1)
    try:
        socket = await connect(url, host=host, port=int(port), proxy=None)
    except (OSError, websockets.InvalidHandshake) as error:
        tally.bad(kind, f"connect: {error!r}")
        return
    version = socket.response.headers["x-version"]
    sent = 0
    try:
        while (most is None or sent < most) and not tally.stopping.is_set():
            message = f"message {sent}"
            await socket.send(message)
            back = await asyncio.wait_for(socket.recv(), 15)
            if back != message:
                tally.bad(kind, f"{back!r} came back for {message!r}")
                return
            sent += 1
            if most is None:
                tally.good(kind, version)
            await asyncio.sleep(PAUSE)
        await socket.close()
        if most is not None and sent == most:
            tally.good(kind, version)
    except websockets.ConnectionClosed as closed:
        # Whoever ends it says that it goes away, and nothing else.
        code = closed.rcvd.code if closed.rcvd else None
        if most is None and code == 1001:
            tally.cut(kind, version)
        else:
            tally.bad(kind, f"after {sent} messages with {version}: {closed!r}")
    except (OSError, TimeoutError) as error:
        tally.bad(kind, f"after {sent} messages with {version}: {error!r}")


async def again(kind, url, address, most):
    while not tally.stopping.is_set():
        await talk(kind, url, address, most)


async def main():
    address, host = sys.argv[1:]
    url = f"ws://{host}/socket"
    long = [again("long WebSocket", url, address, None) for _ in range(LONG)]
    short = [again("short WebSocket", url, address, MESSAGES) for _ in range(SHORT)]
    await asyncio.gather(*long, *short)
    tally.end()


asyncio.run(main())
