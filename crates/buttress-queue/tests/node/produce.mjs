// Adds jobs as Node does, and says in which trace: node produce.mjs URL QUEUE
import { trace } from '@opentelemetry/api';
import { Queue } from 'bullmq';
import { connection, telemetry } from './connect.mjs';

const [url, name] = process.argv.slice(2);
const redis = connection(url);
const queue = new Queue(name, { connection: redis, telemetry });
await trace.getTracer('test').startActiveSpan('request', async (span) => {
  await queue.add('order.created', { order: 17, text: 'grün' }, { jobId: 'evt-17', priority: 2 });
  const plain = await queue.add('plain', { order: 18 });
  console.log(JSON.stringify({ trace: span.spanContext().traceId, plain: plain.id }));
  span.end();
});
await queue.close();
redis.disconnect();
