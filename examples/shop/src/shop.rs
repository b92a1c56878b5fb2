//! The three services: started, stopped and looked into together.

use std::error::Error;
use std::fmt::Display;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use buttress::Telemetry;
use buttress::signal::Signals;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::circuits::Circuits;
use crate::events::{Events, Teller};
use crate::fault::Faults;
use crate::storefront::Storefront;
use crate::traces::{INVENTORY, PAYMENTS, STOREFRONT, Traces};
use crate::{debug, inventory, payments, storefront};

/// How long requests under way are waited for when a service stops.
const GRACE: Duration = Duration::from_secs(3);

/// The running shop.
pub(crate) struct Shop {
    pub(crate) address: SocketAddr,
    pub(crate) faults: Faults,
    pub(crate) traces: Traces,
    pub(crate) circuits: Circuits,
    pub(crate) events: Events,
    teller: Teller,
    /// Each with its service.
    pub(crate) telemetries: [(&'static str, Telemetry); 3],
    /// Callers before callees, so that none stops while somebody needs it.
    services: [Service; 3],
}

struct Service {
    name: &'static str,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Listeners for the three on this port and the two after it, where they are free; any for port 0.
pub(crate) async fn listen(port: u16) -> std::io::Result<[TcpListener; 3]> {
    let port_of = |nth| if port == 0 { 0 } else { port + nth };
    Ok([
        listen_for(STOREFRONT, port_of(0)).await?,
        listen_for(INVENTORY, port_of(1)).await?,
        listen_for(PAYMENTS, port_of(2)).await?,
    ])
}

async fn listen_for(service: &str, port: u16) -> std::io::Result<TcpListener> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
        Err(error) if port != 0 => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            println!("Port {port} is not to be had ({error}); {service} takes {}.", listener.local_addr()?.port());
            Ok(listener)
        }
        bound => bound,
    }
}

impl Shop {
    /// Opens the shop on these listeners: storefront, inventory, payments.
    pub(crate) fn open(listeners: [TcpListener; 3]) -> Result<Self, Box<dyn Error>> {
        let traces = Traces::default();
        let telemetry = |service| -> Result<Telemetry, Box<dyn Error>> {
            Ok(Telemetry::from_env(service)?.with_sink(traces.sink(service)))
        };
        let (front, stock, money) = (telemetry(STOREFRONT)?, telemetry(INVENTORY)?, telemetry(PAYMENTS)?);
        let faults = Faults::default();
        let [front_at, stock_at, money_at] = listeners;
        let address = front_at.local_addr()?;
        let (inventory, to_stock) =
            inventory::Client::new(&format!("http://{}", stock_at.local_addr()?).parse()?, &front);
        let (payments, to_money) = payments::Client::new(money_at.local_addr()?, &front)?;
        let events = Events::open(&front)?;
        let teller = events.tell();
        let calls = Storefront { inventory, payments, events: events.clone() };
        let circuits = Circuits([to_stock, to_money]);
        let telemetries = [(STOREFRONT, front.clone()), (INVENTORY, stock.clone()), (PAYMENTS, money.clone())];
        let pages = debug::Pages { shop: address, traces: traces.clone(), telemetries: telemetries.clone() };
        let switches = circuits.clone().router().merge(events.router());

        let (all, for_stock, for_money) = (faults.clone(), faults.inventory.clone(), faults.payments.clone());
        let services = [
            Service::start(STOREFRONT, |stop| {
                storefront::serve(front_at, front, calls, all, pages.router().merge(switches), stop)
            }),
            Service::start(INVENTORY, |stop| inventory::serve(stock_at, stock, for_stock, stop)),
            Service::start(PAYMENTS, async |stop| {
                payments::serve(money_at, money, for_money, stop).await;
                Ok::<_, std::convert::Infallible>(())
            }),
        ];
        Ok(Self { address, faults, traces, circuits, events, teller, telemetries, services })
    }

    /// Where the storefront's clients tell what happens to them.
    pub(crate) fn signals(&self) -> &Signals {
        self.telemetries[0].1.signals()
    }

    /// Stops the services, callers first, and delivers what the telemetry has. Says on stderr what did not go well.
    pub(crate) async fn close(self) {
        for Service { name, stop, mut task } in self.services {
            // A service that has ended already needs no telling.
            let _ = stop.send(());
            if tokio::time::timeout(GRACE, &mut task).await.is_err() {
                eprintln!("{name} had requests under way for {GRACE:?} and was cut off.");
                task.abort();
            }
        }
        // Nobody is left who could place an order.
        self.teller.finish(&self.events, GRACE).await;
        for (name, telemetry) in &self.telemetries {
            if let Err(error) = telemetry.shutdown(GRACE).await {
                eprintln!("{name}: {error}");
            }
        }
    }
}

impl Service {
    fn start<F, E>(name: &'static str, serve: impl FnOnce(Stopped) -> F) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display,
    {
        let (stop, stopped) = oneshot::channel();
        let serving = serve(Box::pin(async {
            // A sender that is gone means the same.
            let _ = stopped.await;
        }));
        let task = tokio::spawn(async move {
            if let Err(error) = serving.await {
                eprintln!("{name} ended: {error}");
            }
        });
        Self { name, stop, task }
    }
}

type Stopped = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
