// What both programs connect with: Redis, and BullMQ's own telemetry, whose spans go nowhere.
import { NodeTracerProvider } from '@opentelemetry/sdk-trace-node';
import { BullMQOtel } from 'bullmq-otel';
import { Redis } from 'ioredis';

new NodeTracerProvider().register();

export const telemetry = new BullMQOtel({ tracerName: 'interop' });

export function connection(url) {
  return new Redis(url, { maxRetriesPerRequest: null });
}
