// Node's HTTP/2 client: node client.js [-H 'name: value'] URL TASK. Says what came of it, in lines.
const http2 = require('http2');

const args = process.argv.slice(2);
const mine = {};
while (args[0] === '-H') {
  const [, name, value] = args[1].match(/^([^:]+): (.*)$/);
  mine[name] = value;
  args.splice(0, 2);
}
const [url, task] = args;

const client = http2.connect(url);
client.on('error', (err) => { console.log('connection:', err.code); });
client.on('goaway', (code) => console.log('goaway', code));

// ask makes one request and resolves with all that came back.
function ask(head, body, options) {
  return new Promise((resolve) => {
    const stream = client.request({ ...mine, ...head }, options);
    const seen = { bytes: 0, text: '' };
    stream.on('response', (h) => {
      seen.head = { ...h };
      delete seen.head.date;
    });
    stream.on('headers', (h) => { seen.early = h[':status']; });
    stream.on('trailers', (h) => { seen.trailers = { ...h }; });
    stream.on('data', (chunk) => {
      seen.bytes += chunk.length;
      if (seen.bytes < 4096) seen.text += chunk;
    });
    stream.on('error', (err) => { seen.error = err.code; });
    stream.on('close', () => {
      seen.code = stream.rstCode;
      resolve(seen);
    });
    if (body === undefined) stream.end();
    else body(stream);
  });
}

const tasks = {
  async get() {
    console.log(JSON.stringify(await ask({ ':path': '/plain?x=1', accept: '*/*', cookie: ['a=1', 'b=2'] })));
  },
  async early() {
    console.log(JSON.stringify(await ask({ ':path': '/early' })));
  },
  // trailers both ways
  async trailers() {
    console.log(JSON.stringify(await ask({ ':path': '/', ':method': 'POST', trailer: 'x-check, x-more' }, (stream) => {
      stream.on('wantTrailers', () => stream.sendTrailers({ 'x-check': 'sum', 'x-more': 'y' }));
      stream.end('a body');
    }, { waitForTrailers: true })));
  },
  async statuses() {
    for (const code of [200, 204, 304, 404, 500]) {
      console.log(JSON.stringify(await ask({ ':path': `/status?code=${code}` })));
    }
  },
  async ping() {
    await new Promise((resolve) => client.once('remoteSettings', resolve));
    await new Promise((resolve, reject) => client.ping(Buffer.from('8 bytes.'), (err, ms, payload) => {
      console.log('pong', String(payload));
      err ? reject(err) : resolve();
    }));
  },
  // the settings that reach the client, and new ones while requests are under way
  async settings() {
    await new Promise((resolve) => client.once('remoteSettings', resolve));
    console.log('connect protocol:', client.remoteSettings.enableConnectProtocol);
    const first = ask({ ':path': '/download?n=3000000' });
    await new Promise((resolve) => client.settings({ initialWindowSize: 1 << 20, maxFrameSize: 1 << 20, headerTableSize: 0 }, resolve));
    console.log(JSON.stringify(await first));
    console.log(JSON.stringify(await ask({ ':path': '/download?n=3000000' })));
  },
  // RST_STREAM in the middle of an answer, then another request
  async cancel() {
    console.log(JSON.stringify(await ask({ ':path': '/echo', ':method': 'POST' }, (stream) => {
      stream.write('some');
      stream.on('data', () => stream.close(http2.constants.NGHTTP2_CANCEL));
    })));
    console.log(JSON.stringify(await ask({ ':path': '/after' })));
  },
  // half of the requests for the local process, half for the original, at the same time on one connection
  async mixed() {
    const asked = [];
    for (let i = 0; i < 200; i++) {
      const who = i % 2 ? { 'x-user': 'me' } : {};
      asked.push(ask({ ...who, ':path': `/download/${i}?n=${i * 500}`, 'x-index': String(i) }).then((seen) => {
        const by = seen.head['x-answered-by'];
        if (seen.bytes !== i * 500 || by !== (i % 2 ? 'my-local' : 'original')) console.log(i, by, seen.bytes, 'bytes');
      }));
    }
    await Promise.all(asked);
    console.log(asked.length, 'requests');
  },
  // a WebSocket's tunnel over HTTP/2, RFC 8441
  async tunnel() {
    await new Promise((resolve) => client.once('remoteSettings', resolve));
    const head = { ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/chat', ':scheme': 'http', ':authority': 'shop', 'sec-websocket-version': '13' };
    console.log(JSON.stringify(await ask(head, (stream) => {
      let rounds = 0;
      stream.write('message 0;');
      stream.on('data', () => {
        if (++rounds < 5) stream.write(`message ${rounds};`);
        else stream.end();
      });
    })));
  },
};

tasks[task]().catch((err) => console.log('failed:', err.code)).finally(() => client.close());
