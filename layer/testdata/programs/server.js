// node:http, on the dual-stack socket that libuv opens.
const show = (host, port) => host.startsWith('::ffff:') ? `${host.slice(7)}:${port}` : `[${host}]:${port}`;
const server = require('http').createServer(({ socket: s }, res) =>
  res.end(`peer ${show(s.remoteAddress, s.remotePort)} local ${show(s.localAddress, s.localPort)}\n`));
server.listen(+process.argv[2], () => {
  const { address, port } = server.address();
  console.log(`listening on ${show(address, port)}`);
});
