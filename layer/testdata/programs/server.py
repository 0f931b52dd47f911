"""http.server with a thread per connection, on IPv4 alone."""
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        peer, local = self.connection.getpeername(), self.connection.getsockname()
        assert peer == self.client_address
        body = f"peer {peer[0]}:{peer[1]} local {local[0]}:{local[1]}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Handler)
print("listening on %s:%d" % server.socket.getsockname(), flush=True)
server.serve_forever()
