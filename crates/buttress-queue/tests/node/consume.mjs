// Works on so many jobs as Node does, and says what it was given: node consume.mjs URL QUEUE COUNT
import { trace } from '@opentelemetry/api';
import { Worker } from 'bullmq';
import { connection, telemetry } from './connect.mjs';

const [url, name, count] = process.argv.slice(2);
const redis = connection(url);
const given = [];
const worker = new Worker(
  name,
  async (job) => {
    const { traceId } = trace.getActiveSpan().spanContext();
    given.push({ id: job.id, name: job.name, data: job.data, priority: job.priority, trace: traceId });
    if (job.data.fail) throw new Error('as it was told');
  },
  { connection: redis, telemetry },
);
const done = async () => {
  if (given.length < Number(count)) return;
  console.log(JSON.stringify(given));
  await worker.close();
  redis.disconnect();
};
worker.on('completed', done);
worker.on('failed', done);
