//! How a live trace ends if a thread panics, and what it does about an event that is never complete.

use bytes::Bytes;

use super::*;

async fn frames_to_the_end(
    live: &mut Live,
    finish_after: Option<usize>,
) -> (Vec<Frame>, anyhow::Error) {
    let mut frames = Vec::new();
    loop {
        if Some(frames.len()) == finish_after {
            live.finish();
        }
        match live.next().await {
            Ok(Some(frame)) => {
                if matches!(frame, Frame::Tick(_)) {
                    live.plan_scans(&|_, _| Want::SocketsAndHolders);
                }
                frames.push(frame);
            }
            Ok(None) => panic!("ended without an error"),
            Err(error) => return (frames, error),
        }
    }
}

/// Loads eBPF programs, so it needs root like the kernel tests.
#[tokio::test]
async fn a_scan_that_panics_ends_the_trace_and_is_reported() {
    for finish_after in [None, Some(1)] {
        let setup = Setup { tracepoints_only: true, ..Setup::default() };
        let mut live = Live::attach(setup, false).expect("the kernel tests run as root");
        live.scanner = SocketScanner::that_panics();

        let run = frames_to_the_end(&mut live, finish_after);
        let ended = tokio::time::timeout(Duration::from_secs(30), run).await;
        let (frames, error) = ended.expect("an end, although no scan completes");
        assert!(error.to_string().contains("the scan thread panicked"), "{error}");
        // Every record of the hooks is accounted for.
        let Some(Frame::Tick(Tick { counters, .. })) = frames.last() else {
            panic!("the counters come last")
        };
        let [seen, lost, filtered] = counters.totals();
        assert_eq!(seen, live.delivered + lost + filtered);
        assert!(live.kernel.active_hooks().is_empty());
        assert!(matches!(live.next().await, Ok(None)));
    }
}

/// A part of a scan whose older records will never be complete.
fn awaiting_for_ever(until: Nanos) -> Held {
    Held { answer: Answer::Sockets(Bytes::new()), mark: Mark::never_passed(), until }
}

/// Loads eBPF programs, so it needs root like the kernel tests.
#[tokio::test]
async fn an_event_that_is_never_complete_delays_scans_only_once() {
    let setup = Setup { tracepoints_only: true, ..Setup::default() };
    let mut live = Live::attach(setup, false).expect("the kernel tests run as root");
    let now = clock::monotonic_ns();
    for (until, messages) in [(now + 200 * MILLISECOND, 1), (Nanos::MAX, 0)] {
        live.held = Some(awaiting_for_ever(until));
        while !matches!(live.next().await, Ok(Some(Frame::Scanned(_)))) {}
        assert_eq!(live.take_messages().len(), messages);
        assert!(clock::monotonic_ns() >= now + 200 * MILLISECOND);
    }
    // A record that has been submitted is waited for no longer than necessary.
    live.held = Some(Held { mark: live.kernel.mark(), ..awaiting_for_ever(Nanos::MAX) });
    while !matches!(live.next().await, Ok(Some(Frame::Scanned(_)))) {}
    assert!(live.take_messages().is_empty());
}
