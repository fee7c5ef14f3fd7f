// A Node server on the descriptor that prebind gives it.
const server = require('http').createServer((request, response) =>
  setTimeout(() => response.end(`pid ${process.pid}`), 1000 * (process.env.ANSWER_SECONDS || 0))
);
setTimeout(() => server.listen({ fd: 3 }), 1000 * (process.env.SLOW_START_SECONDS || 0));
process.on('SIGTERM', () => server.close(() => process.exit(0)));
