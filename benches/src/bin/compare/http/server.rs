//! A server in a process of its own: axum with one route, and the layers of one subject around it.

use std::io::stdin;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use axum::serve::ListenerExt;
use buttress::Telemetry;
use buttress::settings::Settings;
use buttress_otel::ExportSink;
use opentelemetry_sdk::Resource;
use rustix::time::{ClockId, clock_gettime};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tower::layer::layer_fn;

use super::exporter::{Exporter, exported};
use super::pin;
use crate::floor::{Floor, SERVER, Shared};

/// Puts layers around the routes, whose spans go to the collector at this port, if there is one.
pub type Stack = fn(Router, Option<u16>) -> (Router, Settle);

/// Has everything exported that is waiting for it.
pub type Settle = Box<dyn Fn() + Send>;

/// The bare one first.
pub fn subjects() -> Vec<(&'static str, Stack)> {
    #[cfg(feature = "peers")]
    let peers = super::peers::subjects();
    #[cfg(not(feature = "peers"))]
    let peers: [(_, Stack); 0] = [];
    let own: [(_, Stack); 3] = [("bare", |app, _| (app, Box::new(|| {}))), ("buttress", ours), ("floor", floor)];
    own.into_iter().chain(peers).collect()
}

fn ours(app: Router, collector: Option<u16>) -> (Router, Settle) {
    let settings = Settings::read("bench", |_| None).expect("the settings are fine");
    let resource = Resource::builder_empty().with_service_name("bench").build();
    let telemetry = Telemetry::new(settings).with_sink(ExportSink::new(Exporter::to(collector), resource));
    let (spans, runtime) = (telemetry.spans().clone(), Handle::current());
    let settle = move || runtime.block_on(spans.flush(Duration::from_secs(60))).expect("the collector reads");
    (app.layer(telemetry.server()), Box::new(settle))
}

fn floor(app: Router, collector: Option<u16>) -> (Router, Settle) {
    let (shared, exporter) = (Arc::new(Shared::new()), Exporter::to(collector));
    let spans = Arc::clone(&shared);
    let export = move || {
        let batch = std::iter::from_fn(|| spans.take());
        if exporter.forgets() {
            exporter.forget(batch.count());
        } else {
            exporter.take(batch.map(|span| span.export()).collect());
        }
    };
    let export = Arc::new(export);
    let settle = Arc::clone(&export);
    thread::spawn(move || {
        loop {
            // Its queue is full after four times as long.
            thread::sleep(Duration::from_millis(4));
            export();
        }
    });
    let layers = layer_fn(move |inner| Floor::<_, SERVER>::new(inner, Arc::clone(&shared)));
    (app.layer(layers), Box::new(move || settle()))
}

/// Serves on this core, tells its port, and answers what the parent asks, line by line.
pub fn serve(subject: &str, collector: &str, core: &str) {
    pin(core.parse().expect("the number of a core"));
    let (_, stack) = subjects().into_iter().find(|(name, _)| *name == subject).expect("the name of a subject");
    let collector = collector.parse().ok();
    let (settles, settle) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("there are threads");
        runtime.block_on(async {
            let (app, settle) = stack(Router::new().route("/items/{id}", get(async || "ok")), collector);
            settles.send(settle).expect("it is waited for");
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("there is a free port");
            println!("{}", listener.local_addr().expect("it is bound").port());
            let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("the connection is there"));
            axum::serve(listener, app).await.expect("it goes on");
        });
    });
    let settle = settle.recv().expect("the server starts");
    for line in stdin().lines() {
        match line.as_deref() {
            Ok("settle") => {
                settle();
                println!("0");
            }
            Ok("processor") => println!("{}", processor_seconds()),
            Ok("exported") => println!("{}", exported()),
            _ => return,
        }
    }
}

/// Of all threads of this process.
fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
