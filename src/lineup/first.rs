//! The channel that a session of a line-up begins with: the first that can be described.
//!
//! ```text
//!  DESCRIBE tv --> 101: is live/news there? --200--> DESCRIBE tv~101 --200--> answered
//!                   |  404                              |
//!                   v                                   v
//!                  201: open vod/film.mp4 --> ..       201 ..    none: the answer of the first
//! ```
//! A live channel is looked for at the path that it comes from, which tells at once whether there
//! is anything; then what the client wants is led to the channel's own path.
//! Invariant: the SETUP behind a DESCRIBE is led to the channel that was described.
//! Bound: `CHANNELS_TRIED_MAX` channels are tried.

use std::sync::Arc;

use crate::base::names::Name;
use crate::config::channel_paths::channel_path;
use crate::config::lineup::{ChannelSource, Lineup};
use crate::rtsp::response::{Response, Status};

/// A DESCRIBE or SETUP on its way to a channel: see the module.
#[derive(Debug)]
pub(crate) struct First {
    lineup: Arc<str>,
    channels: Vec<(u16, ChannelSource)>,
    next: usize,
    /// The channel is there, and what the client wants is asked of it.
    is_led: bool,
    /// It is a SETUP: its answer is final.
    is_setup: bool,
    /// The answer of the first channel.
    refused: Option<Response>,
}

/// What is to be asked next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// To open a title, by its name in the library; `None`: the clip.
    Open(Option<String>),
    /// For the description of a path, which tells whether it is there.
    Look(String),
    /// For what the client wants, of this path.
    Lead(String),
}

impl First {
    /// For a request without a session. `described` is the channel that was described before.
    pub(crate) fn new(
        path: &str,
        lineup: &Lineup,
        described: Option<u16>,
        is_setup: bool,
    ) -> Option<Self> {
        let known = described.and_then(|number| Some((number, lineup.get(number)?.clone())));
        let is_known = known.is_some();
        let all = lineup.iter().map(|(number, source)| (number, source.clone()));
        let channels: Vec<_> = match known {
            Some(known) => vec![known],
            None => all.take(CHANNELS_TRIED_MAX).collect(),
        };
        let (lineup, next, refused) = (path.into(), 0, None);
        (!channels.is_empty()).then_some(Self {
            lineup,
            channels,
            next,
            is_led: is_known,
            is_setup,
            refused,
        })
    }

    /// The line-up, and the number of the channel that is tried.
    pub(crate) fn channel(&self) -> (Arc<str>, u16) {
        let number = self.channels.get(self.next).map_or(0, |(number, _)| *number);
        (Arc::clone(&self.lineup), number)
    }

    /// What is to be asked; `handle_answer` or `handle_open` follows.
    pub(crate) fn step(&self) -> Step {
        match self.channels.get(self.next) {
            Some((_, ChannelSource::Title(name))) => Step::Open(match Name::parse(name) {
                Name::Title(name) => Some(name.to_owned()),
                _ => None,
            }),
            Some((_, ChannelSource::Live(path))) if !self.is_led => Step::Look(path.clone()),
            Some((number, _)) => Step::Lead(channel_path(&self.lineup, *number)),
            // `handle_answer` has given the answer before.
            None => Step::Lead(self.lineup.to_string()),
        }
    }

    /// The title is open: what the client wants is asked of it.
    pub(crate) fn handle_open(&mut self) {
        self.is_led = true;
    }

    /// What was asked is answered. Returns the answer to the client; `None`: `step` goes on.
    pub(crate) fn handle_answer(&mut self, response: Response) -> Option<Response> {
        let is_ok = response.status() == Status::Ok;
        if self.is_led && (is_ok || self.is_setup) {
            return Some(response);
        }
        if is_ok {
            self.is_led = true;
            return None;
        }
        self.handle_refused(response)
    }

    /// The channel cannot be had. Returns the answer to the client when there are no others.
    pub(crate) fn handle_refused(&mut self, response: Response) -> Option<Response> {
        self.refused.get_or_insert(response);
        self.next += 1;
        self.is_led = false;
        if self.next < self.channels.len() { None } else { self.refused.take() }
    }
}

/// A line-up whose first channels are all gone has none that viewers expect.
const CHANNELS_TRIED_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn lineup() -> Lineup {
        let entries =
            [("1", Ok("live/a")), ("2", Ok("vod/x y.mp4")), ("3", Ok("demo")), ("4", Ok("b"))];
        Lineup::parse(entries).unwrap()
    }

    fn answer(status: Status) -> Response {
        Response::new(status, None)
    }

    fn look(path: &str) -> Step {
        Step::Look(path.to_owned())
    }

    fn lead(path: &str) -> Step {
        Step::Lead(path.to_owned())
    }

    #[test]
    fn channels_are_tried_in_order_until_one_can_be_described() {
        let mut first = First::new("tv", &lineup(), None, false).unwrap();
        assert_eq!(first.step(), look("live/a"));
        assert_eq!(first.handle_answer(answer(Status::Ok)), None);
        assert_eq!((first.step(), first.channel().1), (lead("tv~1"), 1));
        assert_eq!(first.handle_answer(answer(Status::NotFound)), None, "it went meanwhile");
        assert_eq!(first.step(), Step::Open(Some("x y.mp4".to_owned())));
        assert_eq!(first.handle_refused(answer(Status::UnsupportedMediaType)), None);
        assert_eq!(first.step(), Step::Open(None));
        assert_eq!(first.handle_refused(answer(Status::ServiceUnavailable)), None);
        assert_eq!((first.step(), first.channel().1), (look("b"), 4));
        let refused = first.handle_answer(answer(Status::GatewayTimeout));
        assert_eq!(refused.unwrap().status(), Status::NotFound, "the error of the first channel");
    }

    #[test]
    fn setup_goes_to_the_channel_that_was_described_and_its_answer_is_final() {
        let mut first = First::new("tv", &lineup(), Some(4), true).unwrap();
        assert_eq!((first.step(), &*first.channel().0), (lead("tv~4"), "tv"));
        let refused = first.handle_answer(answer(Status::UnsupportedTransport));
        assert_eq!(refused.unwrap().status(), Status::UnsupportedTransport);
        let first = First::new("tv", &lineup(), Some(9), true).unwrap();
        assert_eq!(first.step(), look("live/a"), "the configuration has changed");
        assert!(First::new("tv", &Lineup::default(), None, true).is_none());
    }

    #[test]
    fn no_more_channels_are_tried_than_the_bound() {
        let names: Vec<String> = (1..=30).map(|n| n.to_string()).collect();
        let lineup = Lineup::parse(names.iter().map(|name| (&**name, Ok(&**name)))).unwrap();
        let mut first = First::new("tv", &lineup, None, false).unwrap();
        let tried = (1..).find(|_| first.handle_answer(answer(Status::NotFound)).is_some());
        assert_eq!(tried, Some(CHANNELS_TRIED_MAX));
    }
}
