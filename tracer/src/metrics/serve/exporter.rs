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
use crate::{host::clock, message::failure::Failure, metrics::Metrics};

/// The message if the thread has panicked.
const CANNOT_SERVE: &str = "the thread that serves metrics has stopped";

/// A handle of the thread.
pub(crate) struct Exporter {
    /// The address on which it listens.
    pub(crate) address: SocketAddr,
    metrics: watch::Sender<Option<Arc<Metrics>>>,
    renewed: Arc<AtomicU64>,
    /// The thread, which ends after the last push; `None` without a collector.
    pushes: Option<JoinHandle<()>>,
}

impl Exporter {
    /// Starts the thread, which serves metrics at the first address that can be had, and pushes them to
    /// the collector.
    pub(crate) fn start(
        addresses: &[SocketAddr],
        collector: Option<Collector>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(addresses)?;
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
                    // The endpoint is served until the last push.
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

    /// Publishes the first metrics: from now on they are served and pushed.
    ///
    /// # Errors
    ///
    /// The thread has panicked.
    pub(crate) fn publish(&self, metrics: Metrics) -> Result<(), Failure> {
        self.modify(|published| *published = Some(Arc::new(metrics)))
    }

    /// Updates the published metrics. They are copied only while a response is being written.
    ///
    /// # Errors
    ///
    /// The thread has panicked.
    pub(crate) fn update(&self, update: impl FnOnce(&mut Metrics)) -> Result<(), Failure> {
        self.modify(|published| {
            if let Some(metrics) = published {
                update(Arc::make_mut(metrics));
            }
        })
    }

    fn modify(&self, modify: impl FnOnce(&mut Option<Arc<Metrics>>)) -> Result<(), Failure> {
        if self.metrics.is_closed() {
            return Err(Failure::panicked(CANNOT_SERVE));
        }
        self.metrics.send_modify(modify);
        self.renewed.store(clock::monotonic_ns(), Ordering::Relaxed);
        Ok(())
    }

    /// Ends the export. Returns when the last metrics were pushed or the push failed.
    ///
    /// # Errors
    ///
    /// The thread has panicked.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        drop(self.metrics);
        let panicked = |_| Failure::panicked(CANNOT_SERVE);
        self.pushes.map_or(Ok(()), |pushes| pushes.join().map_err(panicked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishing_after_a_panic_is_an_error() {
        let (metrics, receiver) = watch::channel(None);
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let exporter = Exporter { address, metrics, renewed: Arc::default(), pushes: None };
        let metrics = || Metrics::new(Metrics::LEAST_SERIES);
        assert!(exporter.publish(metrics()).is_ok());
        // As if the thread had ended.
        drop(receiver);
        for ended in [exporter.publish(metrics()), exporter.update(|_| ())] {
            let failure = ended.unwrap_err().to_string();
            assert!(
                failure.contains("serves metrics") && failure.contains("panicked"),
                "{failure}"
            );
        }
    }

    #[test]
    fn a_panic_while_the_last_metrics_are_pushed_is_an_error() {
        let (metrics, _receiver) = watch::channel(None);
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let pushes = Some(thread::spawn(|| panic!("on purpose")));
        let exporter = Exporter { address, metrics, renewed: Arc::default(), pushes };
        assert!(exporter.finish().unwrap_err().to_string().contains("panicked"));
    }

    #[test]
    fn an_update_copies_only_what_a_reader_holds() {
        let (metrics, receiver) = watch::channel(None);
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let exporter = Exporter { address, metrics, renewed: Arc::default(), pushes: None };
        exporter.publish(Metrics::new(Metrics::LEAST_SERIES)).unwrap();
        let published = || receiver.borrow().as_ref().map(Arc::as_ptr);
        let first = published();
        exporter.update(|metrics| metrics.tables.connections = 1).unwrap();
        assert_eq!(published(), first);

        let held = receiver.borrow().clone().unwrap();
        exporter.update(|metrics| metrics.tables.connections = 2).unwrap();
        assert_eq!(held.tables.connections, 1, "a response does not change while it is written");
        assert_eq!(receiver.borrow().as_ref().unwrap().tables.connections, 2);
    }
}
