// A worker that nobody sends requests to: it does JOBS of its own in a second, loses LOST of a
// thousand of them, has QUEUE of them waiting, and tells all of it at /metrics and /state.
'use strict';
const http = require('node:http');

const lost = Number(process.env.LOST || 0);
const queue = Number(process.env.QUEUE || 0);
const jobs = Number(process.env.JOBS || 100);
let total = 0;
let failed = 0;
setInterval(() => {
  total += 1;
  if (Math.random() * 1000 < lost) failed += 1;
}, 1000 / jobs);

http.createServer((request, response) => {
  const metrics = [
    '# TYPE jobs_total counter',
    `jobs_total{kind="mail"} ${total - failed}`,
    `jobs_total{kind="lost"} ${failed}`,
    '# TYPE jobs_failed_total counter',
    `jobs_failed_total ${failed}`,
    '# TYPE queue_length gauge',
    `queue_length ${queue}`,
    '',
  ].join('\n');
  const state = JSON.stringify({ queue: { length: queue }, version: process.env.VERSION });
  const pages = { '/metrics': metrics, '/state': state };
  const page = pages[request.url];
  response.writeHead(page === undefined ? 404 : 200, { 'content-type': 'text/plain' });
  response.end(page);
}).listen(Number(process.env.PORT), '127.0.0.1');
