//! Parameters of a line-up's session (RFC 2326 s10.8, s10.9), one a line.
//!
//! ```text
//!  SET_PARAMETER  key: 2 | channel: 201 | seek: 90.5   -->  200  outcome: tuned to 201
//!                                                           451  key: 0             what was bad
//!                                                                reason: ..
//! ```
//! Several are acted on in their order, or none of them: one that is bad refuses all.
//! Bound: `EVENTS_MAX` parameters.

use crate::config::lineup::Lineup;
use crate::lineup::event::{Input, InputError, Outcome, Refusal};
use crate::lineup::remote::EVENTS_MAX;
use crate::rtsp::response::{Response, Status};

/// Parameters of which none is acted on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadParameters {
    status: Status,
    text: String,
}

/// Reads what is to be set.
///
/// # Errors
/// All that is bad: unknown parameters (451), values that are none (400), numbers without a
/// channel (404); more than may wait (413).
pub(crate) fn parse(body: &[u8], lineup: &Lineup) -> Result<Vec<Input>, BadParameters> {
    let body = String::from_utf8_lossy(body);
    let lines: Vec<&str> = body.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.len() > EVENTS_MAX {
        let text = format!("reason: more than {EVENTS_MAX} parameters\r\n");
        return Err(BadParameters { status: Status::RequestEntityTooLarge, text });
    }
    let (mut inputs, mut text, mut worst) = (Vec::with_capacity(lines.len()), String::new(), None);
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let (status, reason) = match Input::parse(name, value) {
            Ok(Input::Channel(number)) if lineup.get(number).is_none() => {
                (Status::NotFound, Refusal::NoChannel(number).to_string())
            }
            Ok(input) => {
                inputs.push(input);
                continue;
            }
            Err(error @ InputError::Name) => (Status::ParameterNotUnderstood, error.to_string()),
            Err(error) => (Status::BadRequest, error.to_string()),
        };
        // An unknown name tells the client most, a missing channel least.
        let rank = |status: Status| match status {
            Status::ParameterNotUnderstood => 2,
            Status::BadRequest => 1,
            _ => 0,
        };
        worst = worst.into_iter().chain([status]).max_by_key(|status| rank(*status));
        text.push_str(&format!("{line}\r\nreason: {reason}\r\n"));
    }
    match worst {
        Some(status) => Err(BadParameters { status, text }),
        None => Ok(inputs),
    }
}

impl BadParameters {
    /// The answer, with what was bad in its body.
    pub(crate) fn response(self, cseq: Option<u32>) -> Response {
        Response::new(self.status, cseq).body(CONTENT_TYPE, self.text.into_bytes())
    }
}

/// The answer to parameters that were consumed: `ok` with the outcomes, or the refusals.
pub(crate) fn answer(ok: Response, cseq: Option<u32>, outcomes: &[(Input, Outcome)]) -> Response {
    let mut refused = outcomes.iter().filter_map(|(input, outcome)| match outcome {
        Outcome::Refused(refusal) => Some((input, refusal)),
        _ => None,
    });
    let Some((input, first)) = refused.next() else {
        let lines = outcomes.iter().map(|(_, outcome)| format!("outcome: {outcome}\r\n"));
        return ok.body(CONTENT_TYPE, lines.collect::<String>().into_bytes());
    };
    let line = |(input, refusal): (&Input, &Refusal)| format!("{input}\r\nreason: {refusal}\r\n");
    let text: String = std::iter::once((input, first)).chain(refused).map(line).collect();
    Response::new(first.status(), cseq).body(CONTENT_TYPE, text.into_bytes())
}

/// Media type of parameters.
pub(crate) const CONTENT_TYPE: &str = "text/parameters";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Npt;

    fn lineup() -> Lineup {
        Lineup::parse([("101", Ok("live/a")), ("201", Ok("demo"))]).unwrap()
    }

    fn read(body: &str) -> Result<Vec<Input>, (u16, String)> {
        parse(body.as_bytes(), &lineup()).map_err(|bad| (bad.status.code(), bad.text))
    }

    #[test]
    fn parameters_of_a_body_are_read_in_order() {
        let inputs =
            [Input::Digit(2), Input::Channel(201), Input::Up, Input::Seek(Npt(1_500_000_000))];
        let body = "key: 2\r\n\r\n channel:201 \nKEY : up\r\nseek: 1.5\r\n";
        assert_eq!(read(body), Ok(inputs.to_vec()));
        assert_eq!(read("\r\n \r\n"), Ok(vec![]));
    }

    #[test]
    fn bad_parameters_are_all_named_and_none_is_acted_on() {
        let cases = [
            "key: 2\r\nvolume: 3\r\nkey: menu\r\nchannel: 5",
            "key: menu\r\nchannel: 5\r\n",
            "channel: 5",
            "channel: 0",
            "nonsense",
        ];
        let told: Vec<_> =
            cases.iter().map(|body| format!("{:?}", read(body).unwrap_err())).collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
        (451, "volume: 3\r\nreason: no such parameter; there are key, channel and seek\r\nkey: menu\r\nreason: no such key; there are 0 to 9, up, down, last, play, pause, forward and rewind\r\nchannel: 5\r\nreason: no channel 5\r\n")
        (400, "key: menu\r\nreason: no such key; there are 0 to 9, up, down, last, play, pause, forward and rewind\r\nchannel: 5\r\nreason: no channel 5\r\n")
        (404, "channel: 5\r\nreason: no channel 5\r\n")
        (400, "channel: 0\r\nreason: no channel number: 1 to 999\r\n")
        (451, "nonsense\r\nreason: no such parameter; there are key, channel and seek\r\n")
        "#);
        let many = "key: 2\n".repeat(33);
        assert_eq!(read(&many).unwrap_err().0, 413);
    }

    #[test]
    fn answer_has_the_outcomes_or_what_was_refused() {
        let ok = || Response::new(Status::Ok, Some(1)).header("Session", "7");
        let shown = |outcomes: &[(Input, Outcome)]| {
            let mut out = Vec::new();
            answer(ok(), Some(1), outcomes).write_to(i64::MAX, &mut out);
            String::from_utf8(out)
                .unwrap()
                .replace('\r', "")
                .replace(env!("CARGO_PKG_VERSION"), "V")
        };
        let digits = (Input::Digit(2), Outcome::Digits("2".into()));
        let tuned = (Input::Channel(201), Outcome::Tuned(201));
        let (told, found) = ("H264".to_owned(), "H265".to_owned());
        let unfit = Outcome::Refused(Refusal::Unfit { number: 101, told, found });
        let text = shown(&[digits, tuned.clone()]) + "\n" + &shown(&[tuned, (Input::Up, unfit)]);
        insta::assert_snapshot!(text, @r#"
        RTSP/1.0 200 OK
        CSeq: 1
        Server: headend/V
        Session: 7
        Content-Type: text/parameters
        Content-Length: 42

        outcome: digits 2
        outcome: tuned to 201

        RTSP/1.0 451 Parameter Not Understood
        CSeq: 1
        Server: headend/V
        Content-Type: text/parameters
        Content-Length: 95

        key: up
        reason: channel 101 does not fit: the client was told H264, and the channel has H265
        "#);
    }

    proptest::proptest! {
        #[test]
        fn any_body_is_read_or_refused_without_panic(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80)) {
            let _ = parse(&body, &lineup());
        }
    }
}
