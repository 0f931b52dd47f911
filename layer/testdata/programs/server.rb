# TCPServer with a thread per connection.
require 'socket'

def show(a)
  host = a.ip_address.delete_prefix('::ffff:')
  host.include?(':') ? "[#{host}]:#{a.ip_port}" : "#{host}:#{a.ip_port}"
end

server = TCPServer.new(ARGV[0].to_i)
$stdout.sync = true
puts "listening on #{show(server.local_address)}"
loop do
  Thread.start(server.accept) do |c|
    c.readpartial(4096)
    body = "peer #{show(c.remote_address)} local #{show(c.local_address)}\n"
    c.write "HTTP/1.1 200 OK\r\nContent-Length: #{body.size}\r\nConnection: close\r\n\r\n#{body}"
    c.close
  end
end
