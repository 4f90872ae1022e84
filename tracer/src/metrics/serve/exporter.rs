//! The thread that serves and pushes metrics.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use tokio::sync::watch;

use super::{
    endpoint,
    latest::Latest,
    otlp_push::{self, Collector},
};
use crate::{host::clock, metrics::Metrics};

/// The thread, for as long as the program runs.
pub(crate) struct Exporter {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    metrics: watch::Sender<Option<Arc<Metrics>>>,
    renewed: Arc<AtomicU64>,
    /// Ends when all is pushed, if somebody is.
    pushes: Option<JoinHandle<()>>,
}

impl Exporter {
    /// Begins to answer whoever connects, and to push to a collector.
    pub(crate) fn start(address: SocketAddr, collector: Option<Collector>) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let (metrics, receiver) = watch::channel(None);
        let renewed = Arc::new(AtomicU64::new(clock::monotonic_ns()));
        let latest = Latest { metrics: receiver, renewed: renewed.clone() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let is_pushing = collector.is_some();
        let thread = thread::Builder::new().name("synfin-serve".into()).spawn(move || {
            runtime.block_on(async {
                let answers = endpoint::serve(listener, latest.clone());
                match collector {
                    // The endpoint answers until all is pushed.
                    Some(collector) => tokio::select! {
                        _ = answers => {}
                        () = otlp_push::push(collector, latest.metrics) => {}
                    },
                    None => drop(answers.await),
                }
            });
        })?;
        Ok(Self { address, metrics, renewed, pushes: is_pushing.then_some(thread) })
    }

    /// From now on these are what is fetched and pushed.
    ///
    /// # Errors
    ///
    /// The thread has panicked: nobody is served any more.
    pub(crate) fn renew(&self, metrics: &Metrics) -> io::Result<()> {
        self.renewed.store(clock::monotonic_ns(), Ordering::Relaxed);
        self.metrics
            .send(Some(Arc::new(metrics.clone())))
            .map_err(|_| io::Error::other("the thread that serves metrics panicked"))
    }

    /// No more will come: returns when the last have been pushed, or could not be.
    pub(crate) fn finish(self) {
        drop(self.metrics);
        if let Some(pushes) = self.pushes {
            // A panic there has been told.
            let _ = pushes.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_that_nobody_serves_are_an_error() {
        let (metrics, receiver) = watch::channel(None);
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let exporter = Exporter { address, metrics, renewed: Arc::default(), pushes: None };
        let columns = Metrics::new(Metrics::LEAST_SERIES);
        assert!(exporter.renew(&columns).is_ok());
        // As if the thread had ended.
        drop(receiver);
        assert!(exporter.renew(&columns).is_err());
    }
}
