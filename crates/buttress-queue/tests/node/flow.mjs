// Adds a parent that waits for two children, of which one has an id that keeps others out: node flow.mjs URL QUEUE
import { FlowProducer, Queue } from 'bullmq';
import { connection } from './connect.mjs';

const [url, name] = process.argv.slice(2);
const redis = connection(url);
const flows = new FlowProducer({ connection: redis });
await flows.add({
  name: 'parent',
  queueName: name,
  opts: { jobId: 'parent' },
  children: [
    { name: 'child', queueName: name, opts: { jobId: 'child-1' } },
    { name: 'child', queueName: name, opts: { jobId: 'child-2' } },
  ],
});
const queue = new Queue(name, { connection: redis });
const kept = { deduplication: { id: 'once' } };
const first = await queue.add('single', {}, { jobId: 'single-1', ...kept });
const second = await queue.add('single', {}, { jobId: 'single-2', ...kept });
console.log(JSON.stringify({ first: first.id, second: second.id }));
await flows.close();
await queue.close();
redis.disconnect();
