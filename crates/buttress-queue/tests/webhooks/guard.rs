use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use axum::Router;
use axum::response::Redirect;
use buttress::signal::Signal;
use buttress_queue::webhook::{Endpoint, GuardedResolver, Sender, Webhook};
use buttress_queue::{DeadFilter, Worker};
use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

use crate::support::{Running, queue};
use crate::world::{SECRET, World, secret, sender, to};

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_into_ones_own_network_nor_to_who_is_unknown_nor_what_is_too_large() {
    let (queue, world) = (queue(), World::default());
    let sender = sender(world.client(), &["acme"]).largest(100);
    let own = "http://169.254.169.254/latest".parse().unwrap();
    sender.endpoints().set("metadata", Endpoint::new(own, secret(SECRET)).unwrap());
    let running = Running::start(Worker::new(&queue, sender));
    queue.push(to("metadata", "msg_1")).await.unwrap();
    queue.push(to("nobody", "msg_2")).await.unwrap();
    let large = Webhook::new("acme", "order.created", &"x".repeat(100)).unwrap().into_job().unwrap();
    queue.push(large).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    assert_eq!((world.came(), queue.contents().await.unwrap().dead), (0, 3));
    running.stop().await;
}

/// A server of one's own network, and how often it was asked.
async fn server(
    answer: impl Fn() -> axum::response::Response + Clone + Send + Sync + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let app = Router::new().fallback(move || {
        counted.fetch_add(1, SeqCst);
        std::future::ready(answer())
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, asked)
}

/// Why a webhook to there became a dead letter, sent by hyper's client.
async fn refused(connector: HttpConnector<GuardedResolver>, url: &str, allow_private: bool) -> String {
    let client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(connector);
    let sender = Sender::new("webhooks", client);
    let sender = if allow_private { sender.allow_private_addresses() } else { sender };
    sender.endpoints().set("acme", Endpoint::new(url.parse().unwrap(), secret(SECRET)).unwrap());
    let queue = queue();
    let mut signals = queue.signals().subscribe();
    let running = Running::start(Worker::new(&queue, sender).max_attempts(1));
    queue.push(to("acme", "msg_1")).await.unwrap();
    let refused = async { while !matches!(signals.next().await, Some(Signal::JobDeadLettered { .. })) {} };
    timeout(Duration::from_secs(20), refused).await.expect("it is refused");
    let letter = queue.dead_letters(&DeadFilter::default(), 1).await.unwrap().remove(0);
    running.stop().await;
    letter.reason.to_string()
}

#[tokio::test]
async fn a_name_whose_address_is_private_is_connected_to_by_nobody() {
    let (address, asked) = server(|| unreachable!()).await;
    let port = address.port();
    // The last two are 127.0.0.1 to a resolver, and no addresses to a parser of URLs.
    for host in ["localhost", "127.1", "2130706433"] {
        let guarded = HttpConnector::new_with_resolver(GuardedResolver);
        let why = refused(guarded, &format!("http://{host}:{port}/in"), false).await;
        assert!(why.contains("the destination has no public address"), "{host}: {why}");
    }
    assert_eq!(asked.load(SeqCst), 0);
}

#[tokio::test]
async fn an_address_that_is_private_is_connected_to_by_nobody_however_it_is_written() {
    let (address, asked) = server(|| unreachable!()).await;
    let port = address.port();
    for host in ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"] {
        let guarded = HttpConnector::new_with_resolver(GuardedResolver);
        let why = refused(guarded, &format!("http://{host}:{port}/in"), false).await;
        assert_eq!(why, "the destination has no public address", "{host}");
    }
    assert_eq!(asked.load(SeqCst), 0);
}

#[tokio::test]
async fn a_redirection_is_not_followed() {
    let (inner, asked) = server(|| unreachable!()).await;
    let location = format!("http://{inner}/latest");
    let (outer, redirected) =
        server(move || axum::response::IntoResponse::into_response(Redirect::temporary(&location))).await;
    let connector = HttpConnector::new_with_resolver(GuardedResolver);
    let why = refused(connector, &format!("http://{outer}/in"), true).await;
    assert!(why.contains("307 Temporary Redirect"), "{why}");
    assert_eq!((redirected.load(SeqCst), asked.load(SeqCst)), (1, 0));
}
