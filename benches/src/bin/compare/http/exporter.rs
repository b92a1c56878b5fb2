//! The same exporter for all: OTLP in protobuf over HTTP, to a collector whose answers are not waited for.

use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use prost::Message;

static EXPORTED: AtomicU64 = AtomicU64::new(0);

/// Spans that have left this process.
pub fn exported() -> u64 {
    EXPORTED.load(Relaxed)
}

#[derive(Debug)]
pub struct Encoder {
    resource: ResourceAttributesWithSchema,
    collector: Mutex<TcpStream>,
}

impl Encoder {
    pub fn to(collector: u16) -> Self {
        let collector = TcpStream::connect((Ipv4Addr::LOCALHOST, collector)).expect("the collector listens");
        let resource = Resource::builder_empty().with_service_name("bench").build();
        Self { resource: (&resource).into(), collector: Mutex::new(collector) }
    }

    pub fn send(&self, spans: Vec<SpanData>) {
        let count = spans.len() as u64;
        let resource_spans = group_spans_by_resource_and_scope(spans, &self.resource);
        let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: collector\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut collector = self.collector.lock().expect("nobody panics while sending");
        // It is gone when the measuring is over.
        let sent = collector.write_all(head.as_bytes()).and_then(|()| collector.write_all(&body));
        EXPORTED.fetch_add(if sent.is_ok() { count } else { 0 }, Relaxed);
    }
}

impl SpanExporter for Encoder {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.send(batch);
        Ok(())
    }
}
