"""A client on one event loop, which must keep turning while connections are pending."""
import asyncio
import errno
import sys
import time
from urllib.parse import urlsplit


def show(address):
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def connect(host, port):
    _, w = await asyncio.open_connection(host, int(port))
    local, peer = w.get_extra_info("sockname"), w.get_extra_info("peername")
    w.close()
    return f"ok from {show(local)} to {show(peer)}"


async def impatient(host, port):
    return await asyncio.wait_for(connect(host, port), 0.2)


async def lookup(name):
    found = {a[4][0] for a in await asyncio.get_running_loop().getaddrinfo(name, None)}
    return found.pop() if len(found) == 1 else f"{len(found)} addresses"


class Echo(asyncio.DatagramProtocol):
    def __init__(self):
        self.answer = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, addr):
        self.answer.set_result(f"{data.decode()} from {show(addr)}")

    def error_received(self, exc):
        self.answer.set_exception(exc)


async def send(host, port):
    transport, echo = await asyncio.get_running_loop().create_datagram_endpoint(
        Echo, local_addr=("::" if ":" in host else "0.0.0.0", 0))
    transport.sendto(b"hello", (host, int(port)))
    try:
        return await asyncio.wait_for(echo.answer, 5)
    finally:
        transport.close()


async def converse(host, port):
    transport, echo = await asyncio.get_running_loop().create_datagram_endpoint(
        Echo, remote_addr=(host, int(port)))
    transport.sendto(b"hello")
    try:
        return await asyncio.wait_for(echo.answer, 5)
    finally:
        transport.close()


async def get(url):
    u = urlsplit(url)
    r, w = await asyncio.open_connection(u.hostname, u.port or 80)
    w.write(f"GET / HTTP/1.0\r\nHost: {u.hostname}\r\n\r\n".encode())
    body = (await r.read()).split(b"\r\n\r\n", 1)[1]
    w.close()
    return body.decode().splitlines()[0]


async def steady(host, port):
    """The longest pause of the loop while a connection is pending."""
    longest, last = 0, time.monotonic()
    pending = asyncio.create_task(connect(host, port))
    while not pending.done():
        await asyncio.sleep(0.005)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    return "steady" if longest < 0.5 else f"stalled {longest * 1000:.0f} ms"


async def main():
    for probe in sys.argv[1:]:
        verb, *words = probe.split()
        try:
            result = await globals()[verb](*words)
        except OSError as e:
            if type(e).__name__ == "gaierror":
                result = "no such name"
            elif isinstance(e, asyncio.TimeoutError) and not e.errno:
                result = "gave up"
            else:
                result = errno.errorcode.get(e.errno, e)
        print(f"{probe}: {result}", flush=True)


asyncio.run(main())
