//! Parsers of argument values: durations, sizes, states, close reasons and severities.

use std::time::Duration;

use synfin_common::state::TcpState;

use crate::{
    findings::Severity,
    message::suggest::did_you_mean,
    tcp::{close_reason::CloseReason, state},
};

/// Parses a duration: a number of seconds, or numbers with units (`500ms`, `2m`).
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let duration = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?,
        Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string())?,
    };
    if duration.is_zero() {
        return Err("must be more than zero".into());
    }
    Ok(duration)
}

/// Parses a TCP state in any of the usual spellings: FIN_WAIT1, fin-wait-1, fin_wait_1.
pub(super) fn state(text: &str) -> Result<TcpState, String> {
    let names = TcpState::ALL.map(TcpState::name);
    state::from_name(text)
        .ok_or_else(|| format!("{}the states are {}", did_you_mean(text, names), names.join(", ")))
}

pub(super) fn reason(text: &str) -> Result<CloseReason, String> {
    let wanted = text.to_lowercase().replace('-', "_");
    let ids = || CloseReason::ALL.iter().map(|reason| reason.id());
    CloseReason::from_id(&wanted)
        .ok_or_else(|| did_you_mean(text, ids()) + "`synfin explain` lists the reasons")
}

pub(super) fn severity(text: &str) -> Result<Severity, String> {
    let named = Severity::ALL.into_iter().find(|severity| severity.name() == text.to_lowercase());
    let names = Severity::ALL.map(Severity::name);
    named.ok_or_else(|| format!("the severities are {}", names.join(", ")))
}

/// Parses a size: a number of bytes, or one with the suffix K, M or G (powers of 1024).
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| "not a number of bytes".to_owned())?;
    Ok(number.saturating_mul(1 << shift))
}

pub(super) fn ring_size(text: &str) -> Result<u32, String> {
    let bytes = u32::try_from(size(text)?).map_err(|_| "must not be more than 2G".to_owned())?;
    if !bytes.is_power_of_two() || bytes < 4096 {
        return Err("must be a power of two, from 4K to 2G".into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_parsed_in_every_spelling() {
        for text in ["FIN_WAIT1", "fin-wait-1", "fin_wait_1", "FinWait1"] {
            assert_eq!(state(text), Ok(TcpState::FinWait1), "{text}");
        }
        assert_eq!(state("ESTAB"), Ok(TcpState::Established));
        assert_eq!(state("TIME-WAIT"), Ok(TcpState::TimeWait));
        assert!(state("open").unwrap_err().contains("close_wait"));
        assert_eq!(reason("reset-by-peer"), Ok(CloseReason::ResetByPeer));
        assert!(reason("reset_by_pear").unwrap_err().starts_with("did you mean reset_by_peer"));
    }

    #[test]
    fn sizes_and_durations_are_parsed_with_their_units() {
        assert_eq!(ring_size("16M"), Ok(16 << 20));
        assert_eq!(ring_size("4096"), Ok(4096));
        assert!(ring_size("3M").is_err() && ring_size("4G").is_err() && ring_size("M").is_err());
        assert_eq!(interval("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(interval("2m"), Ok(Duration::from_mins(2)));
        assert!(interval("0").is_err() && interval("-1").is_err() && interval("soon").is_err());
    }
}
