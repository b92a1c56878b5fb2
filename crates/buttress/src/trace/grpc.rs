//! Attributes of gRPC spans (OpenTelemetry, RPC conventions).

use std::borrow::Cow;

use http::Uri;

use super::attributes::Attributes;
use super::layer::RpcNames;
use crate::classify::GrpcCode;
use crate::redact;

const OTHER: &str = "_OTHER";

/// Adds method and status, and answers with the span's name.
///
/// A server that does not implement a method was sent a name of somebody's invention: it is not used as a name.
pub(super) fn describe(
    uri: &Uri,
    code: Option<GrpcCode>,
    is_server: bool,
    names: RpcNames,
    attributes: &mut Attributes,
) -> Cow<'static, str> {
    let path = uri.path().trim_start_matches('/');
    let is_method = path.split_once('/').is_some_and(|(service, method)| !service.is_empty() && is_name(method));
    let is_known = is_method && !(is_server && code == Some(GrpcCode::UNIMPLEMENTED));
    let method: Cow<'static, str> = if is_known { path.to_owned().into() } else { OTHER.into() };
    match names {
        RpcNames::Current => {
            attributes.push("rpc.system.name", "grpc");
            attributes.push("rpc.method", method.clone());
            if !is_known {
                attributes.push("rpc.method_original", redact::text(path).into_owned());
            }
            attributes.push_some("rpc.status_code", code.map(GrpcCode::as_str));
        }
        RpcNames::Old => {
            attributes.push("rpc.system", "grpc");
            let (service, name) = method.split_once('/').unwrap_or(("", OTHER));
            attributes.push("rpc.service", service.to_owned());
            attributes.push("rpc.method", name.to_owned());
            attributes.push_some("rpc.grpc.status_code", code.map(|code| i64::from(code.number())));
        }
    }
    method
}

fn is_name(method: &str) -> bool {
    !method.is_empty() && !method.contains('/')
}
