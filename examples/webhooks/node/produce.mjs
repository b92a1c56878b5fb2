// Adds a job to the inbox as any producer of BullMQ does: REDIS_URL=redis://127.0.0.1:6379 node produce.mjs lamp
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';

const connection = new Redis(process.env.REDIS_URL ?? 'redis://127.0.0.1:6379', { maxRetriesPerRequest: null });
const queue = new Queue('inbox', { connection });
const job = await queue.add('order.created', { type: 'order.created', data: { item: process.argv[2] ?? 'lamp' } });
console.log(`added ${job.id}`);
await queue.close();
connection.disconnect();
