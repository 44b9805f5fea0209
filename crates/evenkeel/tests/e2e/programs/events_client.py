"""Events that a server sends, by httpx: streams that each end after a second.

By HTTP/1.1, which httpx speaks unless it is told otherwise: by HTTP/2 it lets go of whatever is
under way as soon as any server says GOAWAY.

Arguments: the port of the edge with TLS, the certificate's file.
"""
import asyncio
import ssl
import sys

import httpx

from tally import Tally

STREAMS = 3
TICKS = 10
# Longer than anything that a release may make a request wait.
PATIENCE = 15

tally = Tally()


async def again(client, url):
    headers = {"host": "house.test", "accept": "text/event-stream"}
    while not tally.stopping.is_set():
        try:
            async with client.stream("GET", url, headers=headers,
                                     extensions={"sni_hostname": "house.test"}) as answer:
                lines = [line async for line in answer.aiter_lines()]
            data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
            version = answer.headers.get("x-version")
            if answer.status_code == 200 and data == [f"{tick} of {version}" for tick in range(TICKS)]:
                tally.good("events", version)
            else:
                tally.bad("events", f"{answer.status_code} {data}")
        except (httpx.HTTPError, OSError) as error:
            tally.bad("events", repr(error))


async def main():
    port, certificate = sys.argv[1:]
    url = f"https://127.0.0.1:{port}/events?count={TICKS}&every=100"
    context = ssl.create_default_context(cafile=certificate)
    async with httpx.AsyncClient(verify=context, timeout=PATIENCE) as client:
        await asyncio.gather(*(again(client, url) for _ in range(STREAMS)))
    tally.end()


asyncio.run(main())
