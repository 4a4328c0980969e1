//! Which requests steer a session, beyond watching what it plays.
//!
//! ```text
//! PAUSE        SET_PARAMETER with a body (keys of a remote control, and the rest)
//! PLAY with a Range that begins elsewhere than at the start or now, or with a Scale or Speed
//! ```
//! Players send `Range: npt=0.000-` and `Scale: 1` to just play (client rules C6, C18, C22).

use crate::rtsp::request::{Method, Request};

/// Whether the request, within a session, needs the right to control.
#[must_use]
pub fn steers(request: &Request) -> bool {
    match request.method {
        Method::Pause => true,
        Method::SetParameter => !request.body.iter().all(u8::is_ascii_whitespace),
        Method::Play => {
            let is_rate = |name| request.header(name).is_some_and(|rate| !is_one(rate));
            is_rate("Scale") || is_rate("Speed") || request.header("Range").is_some_and(seeks)
        }
        _ => false,
    }
}

fn is_one(rate: &str) -> bool {
    let rate = rate.trim();
    rate.parse::<f64>().is_ok_and(|rate| (rate - 1.0).abs() < 1e-6)
}

fn seeks(range: &str) -> bool {
    let first = range.split([',', ';']).next().unwrap_or_default().trim();
    let Some(npt) = first.strip_prefix("npt=") else { return true };
    let Some((start, end)) = npt.split_once('-') else { return true };
    let is_begin = |text: &str| text.is_empty() || text == "now" || zero(text);
    !is_begin(start.trim()) || !end.trim().is_empty()
}

fn zero(text: &str) -> bool {
    text.split(':').all(|part| part.parse::<f64>().is_ok_and(|part| part == 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pausing_seeking_rates_and_keys_steer_and_just_playing_does_not() {
        let is_steering = |method, headers: &[(&str, &str)], body: &str| {
            steers(&Request::new_for_test(method, "*", headers, body.as_bytes()))
        };
        assert!(is_steering(Method::Pause, &[], ""));
        assert!(is_steering(Method::SetParameter, &[], "key: 2\r\n"));
        assert!(!is_steering(Method::SetParameter, &[], "\r\n"), "a sign of life");
        for method in [Method::GetParameter, Method::Teardown, Method::Setup, Method::Record] {
            assert!(!is_steering(method, &[], "x"));
        }
        for (name, value, expected) in [
            ("Range", "npt=0.000-", false),
            ("Range", "npt=0-", false),
            ("Range", "npt=-", false),
            ("Range", "npt=now-", false),
            ("Range", "npt=00:00:00-", false),
            ("Range", "npt=0-10", true),
            ("Range", "npt=0.5-", true),
            ("Range", "npt=00:00:01-", true),
            ("Range", "clock=19961108T142300Z-", true),
            ("Range", "smpte=0:00:00-", true),
            ("Range", "x", true),
            ("Scale", "1.0", false),
            ("Scale", "2", true),
            ("Scale", "-1", true),
            ("Scale", "x", true),
            ("Speed", "1.000", false),
            ("Speed", "2.0", true),
        ] {
            assert_eq!(
                is_steering(Method::Play, &[(name, value)], ""),
                expected,
                "{name}: {value}"
            );
        }
        assert!(!is_steering(Method::Play, &[], ""), "goes on");
    }
}
