//! The endpoint that metrics are fetched from.

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

/// More wait to be accepted, in the kernel's queue.
const MOST_CONNECTIONS: usize = 64;

/// Who has not asked by then is not waited for any longer.
const SLOWEST_REQUEST: Duration = Duration::from_secs(5);

/// Nor does a connection last longer, whatever it does.
const LONGEST_CONNECTION: Duration = Duration::from_mins(1);

/// A request line with its headers is not larger, nor are there more of these.
const LARGEST_REQUEST: usize = 8 << 10;
const MOST_HEADERS: usize = 64;

/// Figures older than this are not answered with.
const OLDEST_FIGURES: Nanos = 10_000_000_000;

/// Answers whoever connects.
pub(super) async fn serve(listener: TcpListener, latest: Latest) -> io::Result<Infallible> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let place = places.clone().acquire_owned().await;
        // Too many open files, or a client that has gone: the next may find it otherwise.
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
            // What goes wrong is the client's: it hears of it, or is gone.
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
            // Figures that nobody renews are worse than none, which is noticed.
            "/metrics" => self.stale().unwrap_or_else(|| self.metrics(request)),
            "/healthz" => self.stale().unwrap_or_else(|| plain(StatusCode::OK, "ok\n".into())),
            "/" => plain(StatusCode::OK, "synfin: /metrics, /healthz\n".into()),
            _ => plain(StatusCode::NOT_FOUND, "there are /metrics and /healthz\n".into()),
        }
    }

    fn metrics<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let Some(metrics) = self.metrics.borrow().clone() else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "not yet\n".into());
        };
        let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
        let form = Form::accepted(accept.unwrap_or_default());
        let mut answer = plain(StatusCode::OK, write(&metrics, form));
        let media_type = HeaderValue::from_static(form.media_type());
        answer.headers_mut().insert(CONTENT_TYPE, media_type);
        answer
    }

    /// What is answered where figures are not renewed any more.
    fn stale(&self) -> Option<Response<Full<Bytes>>> {
        let renewed = self.renewed.load(Ordering::Relaxed);
        let age = clock::monotonic_ns().saturating_sub(renewed);
        (age > OLDEST_FIGURES).then(|| {
            let seconds = age / 1_000_000_000;
            plain(StatusCode::SERVICE_UNAVAILABLE, format!("no figures for {seconds} s\n"))
        })
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    let media_type = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, media_type);
    answer
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use tokio::sync::watch;

    use super::*;
    use crate::metrics::{DEFAULT_SERIES, Metrics};

    #[test]
    fn figures_that_are_not_renewed_are_not_served() {
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
