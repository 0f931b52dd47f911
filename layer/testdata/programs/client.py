"""A client with blocking sockets, timeouts and urllib."""
import errno
import select
import socket
import sys
import urllib.request


def show(address):
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def outcome(s):
    return f"ok from {show(s.getsockname())} to {show(s.getpeername())}"


def new(host, kind):
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)


def lookup(name):
    found = {a[4][0] for a in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    return found.pop() if len(found) == 1 else f"{len(found)} addresses"


def connect(host, port):
    with new(host, socket.SOCK_STREAM) as s:
        s.connect((host, int(port)))
        return outcome(s)


def nonblock(host, port):
    with new(host, socket.SOCK_STREAM) as s:
        s.setblocking(False)
        err = s.connect_ex((host, int(port)))
        if err != errno.EINPROGRESS:
            return errno.errorcode[err] if err else "ok at once"
        select.select([], [s], [])
        err = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return errno.errorcode[err] if err else outcome(s)


def impatient(host, port):
    with socket.create_connection((host, int(port)), timeout=0.2) as s:
        return outcome(s)


def send(host, port):
    with new(host, socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        s.sendto(b"hello", (host, int(port)))
        text, peer = s.recvfrom(64)
        return f"{text.decode()} from {show(peer)}"


def converse(host, port):
    with new(host, socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        s.connect((host, int(port)))
        s.send(b"hello")
        return f"{s.recv(64).decode()} from {show(s.getpeername())}"


def get(url):
    return urllib.request.urlopen(url).readline().decode().strip()


for probe in sys.argv[1:]:
    verb, *words = probe.split()
    try:
        result = globals()[verb](*words)
    except TimeoutError as e:
        result = errno.errorcode[e.errno] if e.errno else "gave up"
    except socket.gaierror:
        result = "no such name"
    except OSError as e:
        result = errno.errorcode.get(e.errno, e)
    print(f"{probe}: {result}", flush=True)
