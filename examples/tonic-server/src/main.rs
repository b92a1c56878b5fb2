//! A gRPC server whose calls are traced to their trailers, and with `--call` a client to try it.

#![forbid(unsafe_code)]

mod client;
mod server;

use std::error::Error;

use buttress::settings::port;

/// Generated from `proto/greeter.proto`.
#[allow(missing_docs, unreachable_pub, missing_debug_implementations, clippy::all, reason = "generated")]
mod proto {
    tonic::include_proto!("greeter.v1");
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = port(50051)?;
    match std::env::args().nth(1).as_deref() {
        None => server::run(port).await,
        Some("--call") => client::run(port).await,
        Some(other) => Err(format!("{other:?} is not known; --call calls a running server").into()),
    }
}
