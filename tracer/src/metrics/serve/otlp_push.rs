//! Metrics are pushed to an OpenTelemetry collector. As all of them count from the beginning of the
//! trace, what a collector misses is in what it gets next.

use std::{convert::Infallible, env, fmt::Display, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    HeaderMap, Method, Request, StatusCode, Uri,
    header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use percent_encoding::percent_decode_str;
use prost::Message;
use thiserror::Error;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    message::{
        failure::{Failure, describe},
        stderr::{warn, warn_lines},
    },
    metrics::{Metrics, request},
};

/// Who has not answered by then is not waited for any longer.
const SLOWEST_ANSWER: Duration = Duration::from_secs(5);

/// No more of an answer is read.
const LARGEST_ANSWER: usize = 64 << 10;

/// Where collectors listen, below an address that names no path.
const PATH: &str = "/v1/metrics";

const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
const SERVICE: &str = "OTEL_SERVICE_NAME";

const SYNFIN: &str = concat!("synfin/", env!("CARGO_PKG_VERSION"));

/// Who is pushed to, how often, and with what.
#[derive(Debug)]
pub(crate) struct Collector {
    url: Uri,
    every: Duration,
    headers: HeaderMap,
    /// Of what is watched, as OpenTelemetry's programs take them.
    attributes: Vec<(String, String)>,
}

/// What the environment says cannot be used. It may be a secret, so that it is not said.
#[derive(Debug, Error)]
#[error("{variable} is no list of name=value")]
pub(crate) struct CollectorError {
    variable: &'static str,
}

impl Collector {
    /// With headers and attributes of the environment.
    pub(crate) fn new(url: Uri, every: Duration) -> Result<Self, CollectorError> {
        let mut headers = HeaderMap::new();
        for (name, value) in of_environment(HEADERS)? {
            let header: Option<(HeaderName, HeaderValue)> =
                name.parse().ok().zip(value.parse().ok());
            headers.extend([header.ok_or(CollectorError { variable: HEADERS })?]);
        }
        let mut attributes = of_environment(ATTRIBUTES)?;
        if let Some(name) = env::var(SERVICE).ok().filter(|name| !name.is_empty()) {
            attributes.retain(|(key, _)| key != "service.name");
            attributes.push(("service.name".into(), name));
        }
        Ok(Self { url, every, headers, attributes })
    }

    fn request(&self, metrics: &Metrics) -> Request<Full<Bytes>> {
        let mut post = Request::new(Full::new(Bytes::from(request(metrics, &self.attributes))));
        *post.method_mut() = Method::POST;
        *post.uri_mut() = self.url.clone();
        let headers = post.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(USER_AGENT, HeaderValue::from_static(SYNFIN));
        headers.extend(self.headers.clone());
        post
    }
}

/// Where a collector is, of what was typed: without a path, where all have it.
pub(crate) fn url(text: &str) -> Result<Uri, String> {
    let url: Uri = text.parse().map_err(|error| format!("{error}"))?;
    match (url.scheme_str(), url.authority()) {
        (Some("http"), Some(authority)) => match url.path() {
            "" | "/" => format!("http://{authority}{PATH}").parse().map_err(|e| format!("{e}")),
            _ => Ok(url),
        },
        (Some("https"), _) => {
            Err("synfin speaks no TLS: push to a collector on this host or network, by http".into())
        }
        _ => Err("a collector is named like http://127.0.0.1:4318".into()),
    }
}

/// Pushes what is latest, again and again, and once more when no more will come.
pub(super) async fn push(to: Collector, mut metrics: watch::Receiver<Option<Arc<Metrics>>>) {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let mut pusher = Pusher { to, client, metrics: metrics.clone(), before: None };
    tokio::select! {
        never = pusher.go_on() => match never {},
        () = closed(&mut metrics) => pusher.push().await,
    }
}

struct Pusher {
    to: Collector,
    client: Client<HttpConnector, Full<Bytes>>,
    metrics: watch::Receiver<Option<Arc<Metrics>>>,
    /// How it went the last time.
    before: Option<Result<(), Trouble>>,
}

impl Pusher {
    async fn go_on(&mut self) -> Infallible {
        let mut times = interval(self.to.every);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Not before there is something.
        let _ = self.metrics.wait_for(Option::is_some).await;
        loop {
            times.tick().await;
            self.push().await;
        }
    }

    /// Says how it goes when that changes.
    async fn push(&mut self) {
        let Some(latest) = self.metrics.borrow().clone() else { return };
        let now = once(&self.client, &self.to, &latest).await;
        if self.before.as_ref() != Some(&now) {
            match &now {
                Ok(()) => warn(&format!(
                    "metrics are pushed to {} every {}",
                    self.to.url,
                    self.to.every()
                )),
                Err(trouble) => warn_lines(&self.to.failure(trouble).lines(false)),
            }
            self.before = Some(now);
        }
    }
}

async fn closed(metrics: &mut watch::Receiver<Option<Arc<Metrics>>>) {
    while metrics.changed().await.is_ok() {}
}

/// Why metrics did not get to the collector.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
enum Trouble {
    #[error("{0}")]
    Unreachable(String),
    #[error("it gave no answer for {} s", SLOWEST_ANSWER.as_secs())]
    Slow,
    #[error("it answered {0}")]
    Refused(StatusCode),
    #[error("it took only a part of them: {0}")]
    Rejected(String),
}

async fn once(
    client: &Client<HttpConnector, Full<Bytes>>,
    to: &Collector,
    metrics: &Metrics,
) -> Result<(), Trouble> {
    let answer = async {
        let answer = client.request(to.request(metrics)).await;
        let (head, body) = answer.map_err(|error| unreachable(&error))?.into_parts();
        if !head.status.is_success() {
            return Err(Trouble::Refused(head.status));
        }
        // Whoever says nothing that is understood has taken them.
        let body = Limited::new(body, LARGEST_ANSWER).collect().await.unwrap_or_default();
        let said = ExportMetricsServiceResponse::decode(body.to_bytes()).unwrap_or_default();
        match said.partial_success {
            Some(part) if part.rejected_data_points > 0 => {
                Err(Trouble::Rejected(part.error_message))
            }
            _ => Ok(()),
        }
    };
    timeout(SLOWEST_ANSWER, answer).await.unwrap_or(Err(Trouble::Slow))
}

/// The last cause is what the operating system says.
fn unreachable(error: &(dyn std::error::Error + 'static)) -> Trouble {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let spelled = cause.downcast_ref().map_or_else(|| cause.to_string(), describe);
    Trouble::Unreachable(spelled)
}

impl Collector {
    fn every(&self) -> impl Display {
        humantime::format_duration(self.every)
    }

    fn failure(&self, trouble: &Trouble) -> Failure {
        let remedy = match trouble {
            Trouble::Unreachable(_) | Trouble::Slow => {
                "see that a collector takes OTLP by HTTP there (mostly on port 4318)".to_owned()
            }
            Trouble::Refused(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                format!("give what it wants to see in {HEADERS}")
            }
            Trouble::Refused(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) => {
                "give the whole URL, with the path where it takes metrics".to_owned()
            }
            Trouble::Refused(_) | Trouble::Rejected(_) => "see the collector's log".to_owned(),
        };
        let every = self.every();
        let what = format!("cannot push metrics to {}", self.url);
        let remedy = format!(
            "{remedy}; it is tried again every {every}, and nothing is lost: all count from the beginning"
        );
        Failure::cannot_run(what, trouble.to_string(), remedy)
    }
}

fn of_environment(variable: &'static str) -> Result<Vec<(String, String)>, CollectorError> {
    let text = env::var(variable).unwrap_or_default();
    pairs(&text).ok_or(CollectorError { variable })
}

/// `name=value,name=value`, where values may have characters as `%2C`.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
            (!name.trim().is_empty()).then(|| (name.trim().to_owned(), value.into_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_without_a_path_is_where_all_have_theirs() {
        let at = |text: &str| url(text).map(|url| url.to_string());
        assert_eq!(at("http://127.0.0.1:4318").as_deref(), Ok("http://127.0.0.1:4318/v1/metrics"));
        assert_eq!(at("http://[::1]:4318/").as_deref(), Ok("http://[::1]:4318/v1/metrics"));
        let path = "http://prometheus:9090/api/v1/otlp/v1/metrics";
        assert_eq!(at(path).as_deref(), Ok(path));
        assert!(at("https://collector:4318").unwrap_err().contains("TLS"));
        for text in ["127.0.0.1:4318", "collector", "/v1/metrics", "ftp://x", ""] {
            assert!(at(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_environment_is_read_as_opentelemetry_writes_it() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(pairs(""), Some(vec![]));
        let read = pairs("authorization=Bearer%20x%3D, env = prod ,,a=b=c");
        let wanted =
            vec![pair("authorization", "Bearer x="), pair("env", "prod"), pair("a", "b=c")];
        assert_eq!(read, Some(wanted));
        assert_eq!(pairs("x"), None);
        assert_eq!(pairs("=x"), None);
        assert_eq!(pairs("x=%ff"), None);
    }
}
