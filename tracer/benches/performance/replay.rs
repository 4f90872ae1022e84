//! Replays a recording of the machine's full rate through decoder and tracker, on one core.

use std::{
    fs::File,
    io::BufReader,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use synfin::{
    trace::{
        decode::decode,
        event::Input,
        recording::{Frame, Reader},
    },
    tracker::{Limits, Tracker},
};

use crate::{
    load::{Carried, Load},
    median,
    tracer::Synfin,
};

const ROUNDS: usize = 7;
const CONNECTIONS: u64 = 200_000;

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Replay {
    transitions: u64,
    /// Seconds in decoder and tracker, from memory.
    seconds: Vec<f64>,
    /// Seconds in the decoder alone.
    decoder: Vec<f64>,
    /// Seconds of `synfin report --from FILE`, including start and reading.
    whole: Vec<f64>,
}

pub(crate) fn measure(synfin: &Synfin) -> Result<Replay> {
    let file = tempfile::NamedTempFile::new()?;
    let path = file.path().to_str().context("the path of a temporary file is not UTF-8")?;
    let tracer = synfin.watch(&["record", "--force", path])?;
    Load::Short { connections: CONNECTIONS, ms: u64::MAX, carrying: Carried::Reply }.run()?;
    tracer.finish()?;

    let frames = read(file.path())?;
    let mut transitions = 0;
    for frame in &frames {
        decode(frame, |input| transitions += u64::from(matches!(input, Input::Transition(_))));
    }
    let mut replay =
        Replay { transitions, seconds: Vec::new(), decoder: Vec::new(), whole: Vec::new() };
    for _ in 0..ROUNDS {
        replay.seconds.push(through_tracker(&frames)?.as_secs_f64());
        replay.decoder.push(through_decoder(&frames).as_secs_f64());
        let begun = Instant::now();
        synfin.run(&["report", "--from", path, "-o", "json"])?;
        replay.whole.push(begun.elapsed().as_secs_f64());
    }
    Ok(replay)
}

pub(crate) fn read(path: &Path) -> Result<Vec<Frame>> {
    let reader = Reader::new(BufReader::new(File::open(path)?))?;
    Ok(reader.collect::<Result<_, _>>()?)
}

fn through_tracker(frames: &[Frame]) -> Result<Duration> {
    let Some(Frame::Session(session)) = frames.first() else {
        anyhow::bail!("a recording begins with a session");
    };
    let begun = Instant::now();
    let tracker = Tracker::new(Limits::default(), session.clock.monotonic_ns);
    let mut tracker = tracker.with_coverage(session.coverage);
    for frame in frames {
        decode(frame, |input| tracker.apply(&input));
    }
    tracker.finish();
    Ok(begun.elapsed())
}

fn through_decoder(frames: &[Frame]) -> Duration {
    let begun = Instant::now();
    for frame in frames {
        decode(frame, |input| drop(std::hint::black_box(input)));
    }
    begun.elapsed()
}

impl Replay {
    fn millions_per_second(&self, seconds: &[f64]) -> f64 {
        self.transitions as f64 / median(seconds.iter().copied()) / 1e6
    }

    pub(crate) fn millions(&self) -> f64 {
        self.millions_per_second(&self.seconds)
    }

    /// The time of decoder and tracker as a multiple of the decoder's alone.
    pub(crate) fn times_decoder(&self) -> f64 {
        median(self.seconds.iter().zip(&self.decoder).map(|(all, decoder)| all / decoder))
    }

    pub(crate) fn decoder_millions(&self) -> f64 {
        self.millions_per_second(&self.decoder)
    }

    pub(crate) fn whole_millions(&self) -> f64 {
        self.millions_per_second(&self.whole)
    }
}
