//! The latest metrics.

use std::sync::{Arc, atomic::AtomicU64};

use tokio::sync::watch;

use crate::metrics::Metrics;

/// What the thread has of it.
#[derive(Clone)]
pub(super) struct Latest {
    pub(super) metrics: watch::Receiver<Option<Arc<Metrics>>>,
    pub(super) renewed: Arc<AtomicU64>,
}
