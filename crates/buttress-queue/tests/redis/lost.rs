//! A claim that Redis makes, and whose answer is lost on the way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use buttress_queue::engine::{Engine, Settlement};
use buttress_queue::{EngineError, JobState};
use buttress_tests::servers;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::{engine, id, job, next, now};

const LONG: Duration = Duration::from_secs(600);

/// A way to Redis that passes everything on, and loses an answer when it is told to.
struct Way {
    address: SocketAddr,
    loses: Arc<AtomicBool>,
}

impl Way {
    /// To the Redis of this URL.
    async fn to(url: &str) -> Self {
        let server: SocketAddr = url.trim_start_matches("redis://").trim_end_matches('/').parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, loses) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let told = Arc::clone(&loses);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server, Arc::clone(&told)));
            }
        });
        Self { address, loses }
    }

    fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    /// The next script is run; then its connection is cut, before anybody hears of it.
    fn lose_an_answer(&self) {
        self.loses.store(true, SeqCst);
    }
}

/// Carries what goes to and fro on a connection, until one of them hangs up or an answer is to be lost.
async fn carry(mut client: TcpStream, server: SocketAddr, loses: Arc<AtomicBool>) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let (mut asked, mut told) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut is_lost = false;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => match read? {
                0 => return Ok(()),
                length => {
                    let is_script = asked[..length].windows(7).any(|word| word == b"EVALSHA");
                    is_lost |= is_script && loses.swap(false, SeqCst);
                    server.write_all(&asked[..length]).await?;
                }
            },
            read = server.read(&mut told) => match read? {
                0 => return Ok(()),
                _ if is_lost => return Ok(()),
                length => client.write_all(&told[..length]).await?,
            },
        }
    }
}

/// With leases that nobody would wait for the end of, and nothing else there to be woken by.
#[tokio::test]
async fn a_claim_that_nobody_heard_of_gives_back_all_that_there_was() {
    let Some(server) = servers::Redis::start().await else { return };
    let way = Way::to(&server.url()).await;
    let (worker, other) = (engine(&way.url(), "lost"), engine(&server.url(), "lost"));
    // The script is known from here on, and is the next.
    assert!(worker.claim(10, LONG, now()).await.unwrap().is_empty());
    other.push(vec![job("a"), job("b")], now()).await.unwrap();
    way.lose_an_answer();
    let unheard = worker.claim(10, LONG, now()).await;
    assert!(matches!(unheard, Err(EngineError::Unavailable(_))), "{unheard:?}");
    for name in ["a", "b"] {
        assert_eq!(other.find(&id(name), now()).await.unwrap().unwrap().state, JobState::Active, "it was claimed");
    }
    for name in ["a", "b"] {
        let claimed = next(&worker, LONG).await;
        assert_eq!((claimed.envelope.id, claimed.attempts, claimed.crashes), (id(name), 0, 0));
        worker.settle(&claimed.lease, Settlement::Done, now()).await.unwrap();
    }
}
