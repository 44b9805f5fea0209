// Greets whoever asks, with the word of another service.
'use strict';
const http = require('node:http');

// The address stays the same through all releases of `words`.
const words = process.env.WORDS_URL;
const agent = new http.Agent({ keepAlive: true });

http.createServer((request, response) => {
  if (request.url === '/healthz') return response.end('well\n');
  http.get(`${words}/word`, { agent }, (theirs) => {
    const parts = [];
    theirs.on('data', (part) => parts.push(part));
    theirs.on('end', () => response.end(`${Buffer.concat(parts)}, world\n`));
  }).on('error', (error) => {
    response.statusCode = 502;
    response.end(`${error.message}\n`);
  });
}).listen(process.env.PORT, '127.0.0.1');
