//! The same exporter for all: it forgets, or sends OTLP in protobuf over HTTP to a collector whose answers are not waited for.

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

/// Spans that the exporter was handed.
pub fn exported() -> u64 {
    EXPORTED.load(Relaxed)
}

/// Where spans end.
#[derive(Debug)]
pub struct Exporter {
    /// `None` when they are forgotten.
    collector: Option<Mutex<TcpStream>>,
    resource: ResourceAttributesWithSchema,
}

impl Exporter {
    /// To the collector at this port; without one, to nowhere.
    pub fn to(collector: Option<u16>) -> Self {
        let connect = |port| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the collector listens");
        let resource = Resource::builder_empty().with_service_name("bench").build();
        Self { collector: collector.map(|port| Mutex::new(connect(port))), resource: (&resource).into() }
    }

    pub const fn forgets(&self) -> bool {
        self.collector.is_none()
    }

    pub fn take(&self, spans: Vec<SpanData>) {
        EXPORTED.fetch_add(spans.len() as u64, Relaxed);
        let Some(collector) = &self.collector else { return };
        let resource_spans = group_spans_by_resource_and_scope(spans, &self.resource);
        let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: collector\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut collector = collector.lock().expect("nobody panics while sending");
        // It is gone when the measuring is over.
        let _ = collector.write_all(head.as_bytes()).and_then(|()| collector.write_all(&body));
    }

    /// Spans that were not made for an exporter, and do not have to be when it forgets.
    pub fn forget(&self, spans: usize) {
        EXPORTED.fetch_add(spans as u64, Relaxed);
    }
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.take(batch);
        Ok(())
    }
}
