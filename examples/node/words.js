// Knows one word.
'use strict';
const http = require('node:http');

http.createServer((request, response) => {
  response.end(request.url === '/healthz' ? 'well\n' : process.env.WORD);
}).listen(process.env.PORT, '127.0.0.1');
