// node:cluster: the master listens and accepts, the workers get connections as descriptors over a unix socket.
const cluster = require('cluster');
const show = (host, port) => host.startsWith('::ffff:') ? `${host.slice(7)}:${port}` : `[${host}]:${port}`;
if (cluster.isPrimary) {
  for (let i = 0; i < 2; i++) cluster.fork();
  let up = 0;
  cluster.on('listening', (_, { port }) => { if (++up === 2) console.log(`listening on [::]:${port}`); });
} else {
  require('http').createServer(({ socket: s }, res) =>
    res.setHeader('Connection', 'close').end(`peer ${show(s.remoteAddress, s.remotePort)} local ${show(s.localAddress, s.localPort)}\n`)
  ).listen(+process.argv[2]);
}
