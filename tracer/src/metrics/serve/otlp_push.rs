//! Pushes metrics to an OpenTelemetry collector. All counters are cumulative, so that a push that
//! fails loses nothing.

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

/// Timeout for a collector's response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of bytes read from a response.
const MAX_RESPONSE: usize = 64 << 10;

/// The default path of collectors.
const PATH: &str = "/v1/metrics";

const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
const SERVICE: &str = "OTEL_SERVICE_NAME";

const SYNFIN: &str = concat!("synfin/", env!("CARGO_PKG_VERSION"));

/// The collector, the interval and the attributes of the resource.
#[derive(Debug)]
pub(crate) struct Collector {
    url: Uri,
    every: Duration,
    headers: HeaderMap,
    /// Attributes of the resource, from the environment.
    attributes: Vec<(String, String)>,
}

/// A variable that cannot be parsed. Its value may be a secret, so that it is not printed.
#[derive(Debug, Error)]
#[error("{variable} is not a list of name=value pairs")]
pub(crate) struct CollectorError {
    variable: &'static str,
}

impl Collector {
    /// Reads headers and attributes from the environment.
    pub(crate) fn new(url: Uri, every: Duration) -> Result<Self, CollectorError> {
        let mut headers = HeaderMap::new();
        for (name, value) in from_environment(HEADERS)? {
            let header: Option<(HeaderName, HeaderValue)> =
                name.parse().ok().zip(value.parse().ok());
            headers.extend([header.ok_or(CollectorError { variable: HEADERS })?]);
        }
        let mut attributes = from_environment(ATTRIBUTES)?;
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

/// Parses the URL of a collector. Without a path it gets the default one.
pub(crate) fn url(text: &str) -> Result<Uri, String> {
    let url: Uri = text.parse().map_err(|error| format!("{error}"))?;
    match (url.scheme_str(), url.authority()) {
        (Some("http"), Some(authority)) => match url.path() {
            "" | "/" => format!("http://{authority}{PATH}").parse().map_err(|e| format!("{e}")),
            _ => Ok(url),
        },
        (Some("https"), _) => {
            Err("synfin does not support TLS: use http:// and a collector on this host or network"
                .into())
        }
        _ => Err("expected a URL such as http://127.0.0.1:4318".into()),
    }
}

/// Pushes the latest metrics at each interval, and once more at the end.
pub(super) async fn push(to: Collector, mut metrics: watch::Receiver<Option<Arc<Metrics>>>) {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let mut pusher = Pusher { to, client, metrics: metrics.clone(), before: None };
    tokio::select! {
        never = pusher.run() => match never {},
        () = closed(&mut metrics) => pusher.push().await,
    }
}

struct Pusher {
    to: Collector,
    client: Client<HttpConnector, Full<Bytes>>,
    metrics: watch::Receiver<Option<Arc<Metrics>>>,
    /// The result of the last push.
    before: Option<Result<(), PushError>>,
}

impl Pusher {
    async fn run(&mut self) -> Infallible {
        let mut times = interval(self.to.every);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Wait for the first metrics.
        let _ = self.metrics.wait_for(Option::is_some).await;
        loop {
            times.tick().await;
            self.push().await;
        }
    }

    /// Pushes once, and prints a message if the result differs from the last one.
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
                Err(error) => warn_lines(&self.to.failure(error).lines(false)),
            }
            self.before = Some(now);
        }
    }
}

async fn closed(metrics: &mut watch::Receiver<Option<Arc<Metrics>>>) {
    while metrics.changed().await.is_ok() {}
}

/// Why a push failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
enum PushError {
    #[error("{0}")]
    Unreachable(String),
    #[error("no response within {} s", RESPONSE_TIMEOUT.as_secs())]
    Slow,
    #[error("the response is {0}")]
    Refused(StatusCode),
    #[error("it rejected a part: {0}")]
    Rejected(String),
}

async fn once(
    client: &Client<HttpConnector, Full<Bytes>>,
    to: &Collector,
    metrics: &Metrics,
) -> Result<(), PushError> {
    let response = async {
        let response = client.request(to.request(metrics)).await;
        let (head, body) = response.map_err(|error| unreachable(&error))?.into_parts();
        if !head.status.is_success() {
            return Err(PushError::Refused(head.status));
        }
        // A response that cannot be parsed means success.
        let body = Limited::new(body, MAX_RESPONSE).collect().await.unwrap_or_default();
        let response = ExportMetricsServiceResponse::decode(body.to_bytes()).unwrap_or_default();
        match response.partial_success {
            Some(part) if part.rejected_data_points > 0 => {
                Err(PushError::Rejected(part.error_message))
            }
            _ => Ok(()),
        }
    };
    timeout(RESPONSE_TIMEOUT, response).await.unwrap_or(Err(PushError::Slow))
}

/// The last source is the error of the operating system.
fn unreachable(error: &(dyn std::error::Error + 'static)) -> PushError {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let text = cause.downcast_ref().map_or_else(|| cause.to_string(), describe);
    PushError::Unreachable(text)
}

impl Collector {
    fn every(&self) -> impl Display {
        humantime::format_duration(self.every)
    }

    fn failure(&self, error: &PushError) -> Failure {
        let remedy = match error {
            PushError::Unreachable(_) | PushError::Slow => {
                "check that a collector accepts OTLP over HTTP there (usually on port 4318)"
                    .to_owned()
            }
            PushError::Refused(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                format!("set the headers that it requires in {HEADERS}")
            }
            PushError::Refused(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) => {
                "give the whole URL, with the path for metrics".to_owned()
            }
            PushError::Refused(_) | PushError::Rejected(_) => {
                "check the collector's log".to_owned()
            }
        };
        let every = self.every();
        let what = format!("cannot push metrics to {}", self.url);
        let remedy = format!(
            "{remedy}; synfin retries every {every}, and nothing is lost because counters are cumulative"
        );
        Failure::cannot_run(what, error.to_string(), remedy)
    }
}

fn from_environment(variable: &'static str) -> Result<Vec<(String, String)>, CollectorError> {
    let text = env::var(variable).unwrap_or_default();
    pairs(&text).ok_or(CollectorError { variable })
}

/// Parses `name=value,name=value`, where values may be percent-encoded.
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
    fn a_url_without_a_path_gets_the_default_one() {
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
    fn the_environment_is_parsed_as_opentelemetry_specifies() {
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
