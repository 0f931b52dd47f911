"""A master that listens and two workers that accept on the socket they inherited, as gunicorn does."""
import os
import signal
import socket
import sys

listener = socket.create_server(("0.0.0.0", int(sys.argv[1])))
for _ in range(2):
    if os.fork() == 0:
        while True:
            c, peer = listener.accept()
            local = c.getsockname()
            c.recv(4096)
            body = "peer %s:%d local %s:%d\n" % (*peer, *local)
            c.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nX-Worker: {os.getpid()}\r\n\r\n{body}".encode())
            c.close()
listener_name = listener.getsockname()
listener.close()  # the workers hold it now
print("listening on %s:%d" % listener_name, flush=True)
signal.pause()
