// A Node server on the descriptor that prebind gives it.
const server = require('http').createServer((request, response) => response.end(`pid ${process.pid}`));
server.listen({ fd: 3 });
process.on('SIGTERM', () => server.close(() => process.exit(0)));
