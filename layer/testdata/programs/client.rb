# A client of Ruby, which asks connect(2) a second time instead of SO_ERROR, and has a resolver of its own.
require 'net/http'
require 'resolv'
require 'socket'

def show(a) = a.ipv6? ? "[#{a.ip_address}]:#{a.ip_port}" : "#{a.ip_address}:#{a.ip_port}"
def outcome(s) = "ok from #{show(s.local_address)} to #{show(s.remote_address)}"

def count(found) = found.size > 1 ? "#{found.size} addresses" : found[0]
def lookup(name) = count(Addrinfo.getaddrinfo(name, nil, nil, :STREAM).map(&:ip_address).uniq)
def resolve(name) = count(Resolv.getaddresses(name))
def connect(host, port) = TCPSocket.open(host, port.to_i) { |s| outcome(s) }
def nonblock(host, port) = Socket.tcp(host, port.to_i, connect_timeout: 5) { |s| outcome(s) }
def impatient(host, port) = Socket.tcp(host, port.to_i, connect_timeout: 0.2) { |s| outcome(s) }
def get(url) = Net::HTTP.get(URI(url)).lines.first.strip

def send_(host, port) # Ruby has a send of its own
  s = UDPSocket.new(host.include?(':') ? Socket::AF_INET6 : Socket::AF_INET)
  s.send('hello', 0, host, port.to_i)
  text, from = s.recvfrom(64)
  "#{text} from #{show(Addrinfo.udp(from[3], from[1]))}"
end

def converse(host, port)
  s = UDPSocket.new(host.include?(':') ? Socket::AF_INET6 : Socket::AF_INET)
  s.connect(host, port.to_i)
  s.send('hello', 0)
  "#{s.recv(64)} from #{show(s.remote_address)}"
end

$stdout.sync = true
ARGV.each do |probe|
  verb, *words = probe.split
  result = begin
    send(verb == 'send' ? :send_ : verb.to_sym, *words)
  rescue SocketError, Resolv::ResolvError
    'no such name'
  rescue Errno::ETIMEDOUT => e
    e.message.include?('user specified timeout') ? 'gave up' : 'ETIMEDOUT'
  rescue SystemCallError => e
    e.class.name.split('::').last
  end
  puts "#{probe}: #{result}"
end
