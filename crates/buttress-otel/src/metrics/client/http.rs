use ::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use ::http::{Method, Request, Uri};
use buttress::settings::Otlp;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use prost::Message;
use prost::bytes::Bytes;

use super::{Exported, MetricsClient};
use crate::otlp::{OtlpError, USER, headers, http_endpoint, no_endpoint};

/// An answer is a few words; nobody should be able to send more.
const MAX_ANSWER: usize = 64 << 10;

/// `http/protobuf`
pub(super) struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    uri: Uri,
    headers: HeaderMap,
}

impl Http {
    pub(super) fn new(otlp: &Otlp) -> Result<Self, OtlpError> {
        let endpoint =
            http_endpoint(otlp, "v1/metrics").unwrap_or_else(|| "http://localhost:4318/v1/metrics".to_owned());
        let mut headers = headers(otlp)?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(USER));
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            uri: endpoint.parse().map_err(|_| no_endpoint(&endpoint))?,
            headers,
        })
    }
}

impl MetricsClient for Http {
    fn export(&self, message: ExportMetricsServiceRequest) -> Exported<'_> {
        let mut request = Request::new(Full::from(message.encode_to_vec()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        Box::pin(async {
            let response = self.client.request(request).await?;
            let status = response.status();
            if !status.is_success() {
                return Err(format!("the collector answered {status}").into());
            }
            // It has taken the numbers, whatever it says about them: to send them again would count them twice.
            let answer = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let answer = answer.ok().and_then(|body| ExportMetricsServiceResponse::decode(body.to_bytes()).ok());
            Ok(answer.unwrap_or_default())
        })
    }
}
