//! How a live trace ends if a thread panics.

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
