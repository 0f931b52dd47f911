import com.sun.net.httpserver.HttpServer;
import java.net.*;

/** com.sun.net.httpserver, on NIO. */
public class Server {
    public static void main(String[] args) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress(Integer.parseInt(args[0])), 0);
        server.createContext("/", exchange -> {
            String body = "peer " + show(exchange.getRemoteAddress()) + " local " + show(exchange.getLocalAddress()) + "\n";
            exchange.sendResponseHeaders(200, body.length());
            exchange.getResponseBody().write(body.getBytes());
            exchange.close();
        });
        server.start();
        System.out.println("listening on " + show(server.getAddress()));
    }

    static String show(InetSocketAddress a) {
        String host = a.getAddress().getHostAddress();
        return (a.getAddress() instanceof Inet6Address ? "[" + fold(host) + "]" : host) + ":" + a.getPort();
    }

    /** The JVM writes 0:0:0:0:0:0:0:0 and fd18:0:0:0:0:0:0:20; the zeros are folded here as everybody else does. */
    static String fold(String host) {
        return host.replaceFirst("%.*", "").replaceFirst("(^|:)0(:0)+(:|$)", "::");
    }
}
