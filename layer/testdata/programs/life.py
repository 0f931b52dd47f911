"""A program that does what it is told, line by line, and says what came of it."""
import os
import signal
import socket
import sys

listener = client = None


def new(port):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("0.0.0.0", int(port)))
    return s


def bind(port):
    global listener
    listener = new(port)
    return "bound"


def listen(port=None):
    global listener
    if port:
        listener = new(port)
    listener.listen()
    return "listening"


def accept():
    global client
    client, _ = listener.accept()
    return "accepted"


def echo():
    client.sendall(client.recv(100))
    return "echoed"


def unlisten():
    listener.close()
    return "closed"


def shutdown():
    listener.shutdown(socket.SHUT_RDWR)
    return "shut down"


def unix(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        return "connected"


def daemon(port):
    """Leaves a grandchild behind that serves one connection on the port."""
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        c, peer = (s := new(port)).listen() or s.accept()
        c.recv(4096)
        body = "peer %s:%d local %s:%d\n" % (*peer, *c.getsockname())
        c.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        os._exit(0)
    os.wait()
    return "left behind"


def spawn():
    """Starts children of three kinds; the answer is their pids and its own."""
    pids = [os.getpid()]
    r, w = os.pipe()
    for detach in (None, os.setsid, lambda: (os.setsid(), signal.signal(signal.SIGHUP, signal.SIG_IGN))):
        if (pid := os.fork()) == 0:
            if detach:
                detach()
            if detach and os.fork():
                os._exit(0)
            os.write(w, f"{os.getpid()} ".encode())
            while True:
                signal.pause()
    while len(pids) < 4:
        pids += os.read(r, 100).split()
    return " ".join(str(int(p)) for p in pids)


def leave(status):
    os._exit(int(status))


print("ready", flush=True)
for line in sys.stdin:
    verb, *words = line.split()
    try:
        result = globals()[verb](*words)
    except OSError as e:
        result = __import__("errno").errorcode.get(e.errno, e)
    print(result, flush=True)
