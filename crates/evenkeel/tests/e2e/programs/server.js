// A server that uses nothing but Node itself. What it does wrong is told by its environment.
'use strict';
const http = require('node:http');
const crypto = require('node:crypto');
const fs = require('node:fs');

// What is configured by a file wins over the environment.
const configured = process.env.CONFIGURATION_DIRECTORY &&
  fs.readFileSync(`${process.env.CONFIGURATION_DIRECTORY}/version`, 'utf8').trim();
const version = configured || process.env.VERSION || 'none';
const secret = process.env.CREDENTIALS_DIRECTORY &&
  fs.readFileSync(`${process.env.CREDENTIALS_DIRECTORY}/TOKEN`, 'utf8').trim();
const port = Number(process.env.PORT);
// A configuration that it cannot bear, though only a request shows it.
const panics = version === 'panics';
const page = `version=${version}\n${'.'.repeat(2000)}\nend\n`;

if (process.env.CRASH === 'start') {
  console.error('cannot go on');
  process.exit(7);
}

function body(request, then) {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => then(Buffer.concat(parts)));
}

function answer(response, status, text, headers = {}) {
  const bytes = Buffer.isBuffer(text) ? text : Buffer.from(text);
  response.writeHead(status, { 'content-length': bytes.length, 'x-version': version, ...headers });
  response.end(bytes);
}

const line = (tick) => `tick ${tick} of ${version}\n`;

function stream(response, count, every, text = line, headers = {}) {
  response.writeHead(200, { 'x-version': version, ...headers });
  let tick = 0;
  const timer = setInterval(() => {
    response.write(text(tick));
    tick += 1;
    if (tick === count) {
      clearInterval(timer);
      response.end();
    }
  }, every);
  response.on('close', () => clearInterval(timer));
}

// Asks another service, as `uses` gives it.
function relay(response) {
  const to = process.env[process.env.RELAY_TO];
  http.get(`${to}/page`, { agent: relay.agent }, (theirs) => {
    const parts = [];
    theirs.on('data', (part) => parts.push(part));
    theirs.on('end', () => {
      const text = Buffer.concat(parts);
      answer(response, theirs.statusCode, text, { 'x-behind': theirs.headers['x-version'] || '' });
    });
    theirs.on('error', (error) => answer(response, 599, `relay: ${error.message}`));
  }).on('error', (error) => answer(response, 599, `relay: ${error.message}`));
}
relay.agent = new http.Agent({ keepAlive: true });

// What a bad revision does: ERRORS of 1,000 requests fail, SLOW of 1,000 take 400 milliseconds
// longer, STRAIN requests a second are more than it can answer, and after DIES milliseconds it ends.
const errors = Number(process.env.ERRORS || 0);
const slow = Number(process.env.SLOW || 0);
const strain = Number(process.env.STRAIN || Infinity);
let asked = 0;
let strained = false;
setInterval(() => {
  strained = asked > strain;
  asked = 0;
}, 1000).unref();

function misbehaves(response) {
  asked += 1;
  const chance = Math.random() * 1000;
  const late = Boolean(process.env.HICCUP) && fs.existsSync(process.env.HICCUP);
  if (chance < errors || strained || (late && chance < 300)) {
    answer(response, 500, 'broken');
    return true;
  }
  if (chance < slow) {
    setTimeout(() => answer(response, 200, page), 400);
    return true;
  }
  return false;
}

let sickAfter = Number(process.env.SICK_AFTER || Infinity);
const server = http.createServer((request, response) => {
  const url = new URL(request.url, 'http://here');
  if (url.pathname === '/healthz') {
    const broken = Boolean(process.env.SICK_WHILE) && fs.existsSync(process.env.SICK_WHILE);
    const sick = process.env.HEALTH === 'never' || broken;
    return answer(response, sick ? 503 : 200, sick ? 'not yet' : 'well');
  }
  if (url.pathname === '/metrics') {
    return answer(response, 200, `version_info{version="${version}"} 1\n`, { 'content-type': 'text/plain' });
  }
  if (panics) process.exit(9);
  sickAfter -= 1;
  if (process.env.FAIL === 'all' || sickAfter < 0) return answer(response, 500, 'broken');
  if (url.pathname === '/token') {
    const hash = (text) => crypto.createHash('sha256').update(text || '').digest('hex');
    return answer(response, 200, `${hash(secret)} ${hash(process.env.TOKEN)}`);
  }
  if (misbehaves(response)) return undefined;
  if (url.pathname === '/echo') return body(request, (bytes) => answer(response, 200, bytes));
  if (url.pathname === '/relay') return relay(response);
  if (url.pathname === '/browser') {
    return answer(response, 200, fs.readFileSync(process.env.BROWSER), { 'content-type': 'text/html' });
  }
  if (url.pathname === '/events') {
    const [count, every] = ['count', 'every'].map((name) => Number(url.searchParams.get(name)));
    const event = (tick) => `id: ${tick}\ndata: ${tick} of ${version}\n\n`;
    return stream(response, count, every, event, { 'content-type': 'text/event-stream' });
  }
  if (url.pathname === '/stream') {
    return stream(response, Number(url.searchParams.get('count')), Number(url.searchParams.get('every')));
  }
  // Takes note of each time it is executed, and then takes its time.
  if (url.pathname === '/order') {
    return body(request, (bytes) => {
      fs.appendFileSync(process.env.ORDERS, `${bytes}\n`);
      setTimeout(() => answer(response, 200, 'ordered'), Number(url.searchParams.get('takes')));
    });
  }
  answer(response, 200, page);
});

// A WebSocket that sends back every message it gets, by RFC 6455; frames below 126 bytes.
server.on('upgrade', (request, socket) => {
  const magic = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
  const accept = crypto.createHash('sha1').update(request.headers['sec-websocket-key'] + magic);
  socket.write('HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n' +
    `sec-websocket-accept: ${accept.digest('base64')}\r\nx-version: ${version}\r\n\r\n`);
  let held = Buffer.alloc(0);
  socket.on('error', () => socket.destroy());
  socket.on('data', (more) => {
    held = Buffer.concat([held, more]);
    while (held.length >= 6) {
      const length = held[1] & 0x7f;
      if (held.length < 6 + length) return;
      const [opcode, mask] = [held[0] & 0x0f, held.subarray(2, 6)];
      let text = held.subarray(6, 6 + length).map((byte, i) => byte ^ mask[i % 4]);
      // A browser does not see the headers.
      if (text.toString() === 'which version') text = Buffer.from(version);
      held = held.subarray(6 + length);
      socket.write(Buffer.concat([Buffer.from([0x80 | opcode, text.length]), text]));
      if (opcode === 8) return socket.end();
    }
  });
});

// Longer than any proxy leaves a connection idle, so that it is never the server who ends one first.
if (process.env.KEEP_ALIVE) server.keepAliveTimeout = Number(process.env.KEEP_ALIVE);

server.listen(port, '127.0.0.1', () => {
  if (process.env.CRASH === 'later') setTimeout(() => process.exit(7), 1500);
  if (process.env.DIES) setTimeout(() => process.exit(9), Number(process.env.DIES));
});
