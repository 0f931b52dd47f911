import java.io.IOException;
import java.net.*;
import java.net.http.*;
import java.nio.ByteBuffer;
import java.nio.channels.*;
import java.util.Set;
import java.util.TreeSet;

/** A client of the JVM: blocking sockets, NIO channels and java.net.http. */
public class Client {
    public static void main(String[] probes) {
        for (String probe : probes) {
            String[] w = probe.split(" ");
            String result;
            try {
                result = switch (w[0]) {
                    case "lookup" -> lookup(w[1]);
                    case "connect" -> connect(to(w), 0);
                    case "impatient" -> connect(to(w), 200);
                    case "nonblock" -> nonblock(to(w));
                    case "send" -> send(to(w));
                    case "converse" -> converse(to(w));
                    case "get" -> get(w[1]);
                    default -> "?";
                };
            } catch (Exception e) {
                result = errno(e);
            }
            System.out.println(probe + ": " + result);
        }
    }

    static InetSocketAddress to(String[] w) throws IOException {
        return new InetSocketAddress(InetAddress.getByName(w[1]), Integer.parseInt(w[2]));
    }

    static String lookup(String name) throws IOException {
        Set<String> found = new TreeSet<>();
        for (InetAddress a : InetAddress.getAllByName(name)) found.add(host(a));
        return found.size() > 1 ? found.size() + " addresses" : found.iterator().next();
    }

    static String connect(InetSocketAddress to, int limit) throws IOException {
        try (Socket s = new Socket()) {
            s.connect(to, limit);
            return "ok from " + show(s.getLocalSocketAddress()) + " to " + show(s.getRemoteSocketAddress());
        }
    }

    static String nonblock(InetSocketAddress to) throws IOException {
        try (SocketChannel c = SocketChannel.open(); Selector ready = Selector.open()) {
            c.configureBlocking(false);
            c.connect(to);
            c.register(ready, SelectionKey.OP_CONNECT);
            ready.select();
            c.finishConnect();
            return "ok from " + show(c.getLocalAddress()) + " to " + show(c.getRemoteAddress());
        }
    }

    static String send(InetSocketAddress to) throws IOException {
        try (DatagramSocket s = new DatagramSocket()) {
            s.setSoTimeout(5000);
            s.send(new DatagramPacket("hello".getBytes(), 5, to));
            DatagramPacket p = new DatagramPacket(new byte[64], 64);
            s.receive(p);
            return new String(p.getData(), 0, p.getLength()) + " from " + show(p.getSocketAddress());
        }
    }

    static String converse(InetSocketAddress to) throws IOException {
        try (DatagramChannel c = DatagramChannel.open()) {
            c.connect(to);
            c.write(ByteBuffer.wrap("hello".getBytes()));
            ByteBuffer b = ByteBuffer.allocate(64);
            c.read(b);
            return new String(b.array(), 0, b.position()) + " from " + show(c.getRemoteAddress());
        }
    }

    static String get(String url) throws Exception {
        HttpRequest r = HttpRequest.newBuilder(URI.create(url)).build();
        return HttpClient.newHttpClient().send(r, HttpResponse.BodyHandlers.ofString()).body().lines().findFirst().get();
    }

    static String show(SocketAddress a) {
        InetSocketAddress i = (InetSocketAddress) a;
        return i.getAddress() instanceof Inet6Address
            ? "[" + host(i.getAddress()) + "]:" + i.getPort() : host(i.getAddress()) + ":" + i.getPort();
    }

    /** The JVM writes fd18:0:0:0:0:0:0:20; the zeros are folded here as everybody else does. */
    static String host(InetAddress a) {
        String host = a.getHostAddress();
        return a instanceof Inet6Address ? host.replaceFirst("%.*", "").replaceFirst("(^|:)0(:0)+(:|$)", "::") : host;
    }

    static String errno(Exception e) {
        if (e instanceof UnknownHostException) return "no such name";
        for (Throwable t = e; t != null; t = t.getCause()) {
            String m = String.valueOf(t.getMessage());
            if (m.contains("Connection refused")) return "ECONNREFUSED";
            if (m.contains("No route to host")) return "EHOSTUNREACH";
            if (m.contains("Connection timed out")) return "ETIMEDOUT";
            if (t instanceof SocketTimeoutException) return "gave up";
        }
        return e.toString();
    }
}
