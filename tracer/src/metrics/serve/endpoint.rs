//! The HTTP endpoint that serves metrics.

use std::{
    convert::Infallible,
    io,
    net::TcpListener,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;

use super::latest::Latest;
use crate::{
    host::clock,
    metrics::{Form, write},
    trace::time::Nanos,
};

/// Maximum number of simultaneous connections. Further ones wait in the accept queue.
const MOST_CONNECTIONS: usize = 64;

/// Timeout for a request's headers.
const SLOWEST_REQUEST: Duration = Duration::from_secs(5);

/// Maximum lifetime of a connection.
const LONGEST_CONNECTION: Duration = Duration::from_mins(1);

/// Maximum size of a request line with its headers, and maximum number of headers.
const LARGEST_REQUEST: usize = 8 << 10;
const MOST_HEADERS: usize = 64;

/// Maximum age of served metrics.
const OLDEST_FIGURES: Nanos = 10_000_000_000;

/// Serves all clients.
pub(super) async fn serve(listener: TcpListener, latest: Latest) -> io::Result<Infallible> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let place = places.clone().acquire_owned().await;
        // Too many open files, or the client has gone. The next accept() may succeed.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let latest = latest.clone();
        tokio::spawn(async move {
            let answer = service_fn(|request| {
                let answer = latest.answer(&request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(SLOWEST_REQUEST)
                .max_buf_size(LARGEST_REQUEST)
                .max_headers(MOST_HEADERS)
                .serve_connection(TokioIo::new(stream), answer);
            // Errors concern the client only, which gets an answer or has gone.
            let _ = tokio::time::timeout(LONGEST_CONNECTION, connection).await;
            drop(place);
        });
    }
}

impl Latest {
    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".into());
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match request.uri().path() {
            // Stale metrics are worse than an error, which is noticed.
            "/metrics" => self.stale().unwrap_or_else(|| self.metrics(request)),
            "/healthz" => self.stale().unwrap_or_else(|| plain(StatusCode::OK, "ok\n".into())),
            "/" => plain(StatusCode::OK, "synfin: /metrics, /healthz\n".into()),
            _ => plain(StatusCode::NOT_FOUND, "not found; try /metrics or /healthz\n".into()),
        }
    }

    fn metrics<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let Some(metrics) = self.metrics.borrow().clone() else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "the trace has not begun yet\n".into());
        };
        let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
        let form = Form::accepted(accept.unwrap_or_default());
        answer(StatusCode::OK, form.media_type(), write(&metrics, form).into())
    }

    /// The error response if the metrics are stale.
    fn stale(&self) -> Option<Response<Full<Bytes>>> {
        let renewed = self.renewed.load(Ordering::Relaxed);
        let age = clock::monotonic_ns().saturating_sub(renewed);
        (age > OLDEST_FIGURES).then(|| {
            let seconds = age / 1_000_000_000;
            plain(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("metrics are stale: last updated {seconds} s ago\n"),
            )
        })
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", text.into())
}

fn answer(status: StatusCode, media_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use tokio::sync::watch;

    use super::*;
    use crate::metrics::{DEFAULT_SERIES, Metrics};

    #[test]
    fn stale_metrics_are_not_served() {
        let answer = |age: Nanos, path: &str| {
            let metrics = Some(Arc::new(Metrics::new(DEFAULT_SERIES)));
            let renewed = Arc::new(AtomicU64::new(clock::monotonic_ns() - age));
            let latest = Latest { metrics: watch::channel(metrics).1, renewed };
            let request = Request::get(path).body(()).unwrap();
            latest.answer(&request).status()
        };
        for path in ["/metrics", "/healthz"] {
            assert_eq!(answer(0, path), StatusCode::OK);
            assert_eq!(answer(OLDEST_FIGURES + 1, path), StatusCode::SERVICE_UNAVAILABLE);
        }
    }
}
