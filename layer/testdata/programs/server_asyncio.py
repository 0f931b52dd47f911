"""An asyncio server, which opens one socket for each family."""
import asyncio
import sys


def show(address):
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def answer(r, w):
    await r.readuntil(b"\r\n\r\n")
    body = f"peer {show(w.get_extra_info('peername'))} local {show(w.get_extra_info('sockname'))}\n"
    w.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
    await w.drain()
    w.close()


async def main():
    server = await asyncio.start_server(answer, None, int(sys.argv[1]))
    print("listening on", *sorted(show(s.getsockname()) for s in server.sockets), flush=True)
    await server.serve_forever()


asyncio.run(main())
