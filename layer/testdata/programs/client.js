// A client on libuv. lookup asks the C library, resolve asks c-ares, which speaks DNS itself.
const dgram = require('dgram'), dns = require('dns').promises, http = require('http'), net = require('net');

const show = (host, port) => net.isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
const count = found => found.length > 1 ? `${found.length} addresses` : found[0];

const verbs = {
  lookup: async name => count((await dns.lookup(name, { all: true })).map(a => a.address)),
  resolve: async name => count(await dns.resolve4(name)),

  connect: (host, port) => new Promise((resolve, reject) => {
    const s = net.connect(port, host, () => {
      resolve(`ok from ${show(s.localAddress, s.localPort)} to ${show(s.remoteAddress, s.remotePort)}`);
      s.destroy();
    }).on('error', reject);
  }),

  impatient: (host, port) => new Promise((resolve, reject) => {
    const s = net.connect({ host, port, timeout: 200 }, () => resolve('ok'));
    s.on('error', reject).on('timeout', () => { resolve('gave up'); s.destroy(); });
  }),

  send: (host, port) => new Promise((resolve, reject) => {
    const s = dgram.createSocket(net.isIPv6(host) ? 'udp6' : 'udp4');
    s.on('message', (text, from) => { resolve(`${text} from ${show(from.address, from.port)}`); s.close(); });
    s.on('error', reject).send('hello', port, host);
  }),

  converse: (host, port) => new Promise((resolve, reject) => {
    const s = dgram.createSocket(net.isIPv6(host) ? 'udp6' : 'udp4');
    s.on('message', text => {
      const peer = s.remoteAddress();
      resolve(`${text} from ${show(peer.address, peer.port)}`);
      s.close();
    });
    s.on('error', reject).connect(port, host, () => s.send('hello'));
  }),

  get: url => new Promise((resolve, reject) => http.get(url, res => {
    let body = '';
    res.on('data', part => body += part).on('end', () => resolve(body.split('\n')[0]));
  }).on('error', reject)),

  // The longest pause of the loop while a connection is pending.
  steady: async (host, port) => {
    let last = Date.now(), longest = 0;
    const tick = setInterval(() => { longest = Math.max(longest, Date.now() - last); last = Date.now(); }, 5);
    await verbs.connect(host, port);
    clearInterval(tick);
    return longest < 500 ? 'steady' : `stalled ${longest} ms`;
  },
};
verbs.nonblock = verbs.connect; // libuv never blocks

(async () => {
  for (const probe of process.argv.slice(2)) {
    const [verb, ...words] = probe.split(' ');
    const result = await verbs[verb](...words).catch(e => e.code === 'ENOTFOUND' ? 'no such name' : e.code || String(e));
    console.log(`${probe}: ${result}`);
  }
})();
