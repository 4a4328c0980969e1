//! HLS as a client sees it: answers with their headers, and a checker of the rules of playlists,
//! written apart from the product so that it can disagree.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::wait::PATIENCE;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// Asks once, on a connection of its own. `headers`: lines that end with CRLF.
pub(crate) fn ask(hls: SocketAddr, method: &str, path: &str, headers: &str) -> Answer {
    ask_with(hls, method, path, headers, "")
}

/// The same with a body.
pub(crate) fn ask_with(
    hls: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Answer {
    let mut stream = TcpStream::connect_timeout(&hls, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let host = if headers.contains("Host:") { String::new() } else { format!("Host: {hls}\r\n") };
    let length = match body.len() {
        0 => String::new(),
        bytes => format!("Content-Length: {bytes}\r\n"),
    };
    let lines = format!("{host}{headers}{length}Connection: close\r\n\r\n");
    write!(stream, "{method} {path} HTTP/1.1\r\n{lines}{body}").unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    read_answer(&all, method)
}

pub(crate) fn get(hls: SocketAddr, path: &str) -> Answer {
    ask(hls, "GET", path, "")
}

fn read_answer(all: &[u8], method: &str) -> Answer {
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer");
    let head = std::str::from_utf8(&all[..end]).unwrap();
    let (first, lines) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = first.split(' ').nth(1).unwrap().parse().unwrap();
    let headers: BTreeMap<_, _> = lines
        .split("\r\n")
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let body = all[end + 4..].to_vec();
    if let Some(length) = headers.get("content-length")
        && method != "HEAD"
    {
        assert_eq!(length.parse::<usize>().unwrap(), body.len(), "{head}");
    }
    Answer { status, headers, body }
}

/// A media playlist, read.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Playlist {
    pub(crate) target: u64,
    pub(crate) sequence: u64,
    pub(crate) discontinuity_sequence: u64,
    pub(crate) part_target: Option<f64>,
    pub(crate) part_hold_back: Option<f64>,
    pub(crate) segments: Vec<Segment>,
    /// Parts behind the last segment.
    pub(crate) open_parts: Vec<Part>,
    pub(crate) hint: Option<String>,
    pub(crate) is_ended: bool,
}

#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Segment {
    pub(crate) uri: String,
    pub(crate) map: String,
    pub(crate) duration: f64,
    pub(crate) is_discontinuous: bool,
    pub(crate) is_gap: bool,
    pub(crate) parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    pub(crate) uri: String,
    pub(crate) duration: f64,
    pub(crate) is_independent: bool,
}

fn attribute(text: &str, name: &str) -> Option<String> {
    let mut rest = text;
    while let Some((key, behind)) = rest.split_once('=') {
        let (value, next) = match behind.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => behind.split_at(behind.find(',').unwrap_or(behind.len())),
        };
        if key == name {
            return Some(value.to_owned());
        }
        rest = next.strip_prefix(',').unwrap_or(next);
    }
    None
}

/// A multivariant playlist of one variant, read.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Multivariant {
    pub(crate) uri: String,
    pub(crate) codecs: Vec<String>,
    pub(crate) bandwidth: u64,
    pub(crate) sounds: Vec<SoundChoice>,
}

/// A sound to choose.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct SoundChoice {
    pub(crate) name: String,
    pub(crate) language: Option<String>,
    /// `None`: the variant has it.
    pub(crate) uri: Option<String>,
    pub(crate) channels: Option<String>,
    pub(crate) is_default: bool,
    pub(crate) is_automatic: bool,
}

/// Reads a multivariant playlist and holds it to the rules of RFC 8216 s4.3.4.
pub(crate) fn check_multivariant(text: &str) -> Multivariant {
    assert!(text.starts_with("#EXTM3U\n"), "{text}");
    let mut list = Multivariant::default();
    let (mut groups, mut group) = (Vec::new(), None);
    let mut is_next = false;
    for line in text.lines().skip(1) {
        let (tag, value) = line.split_once(':').unwrap_or((line, ""));
        let is = |name: &str| match attribute(value, name).as_deref() {
            Some("YES") => true,
            Some("NO") | None => false,
            other => panic!("{name} is {other:?}: {line}"),
        };
        match tag {
            "#EXT-X-MEDIA" => {
                assert_eq!(attribute(value, "TYPE").as_deref(), Some("AUDIO"), "{line}");
                groups.push(attribute(value, "GROUP-ID").unwrap());
                list.sounds.push(SoundChoice {
                    name: attribute(value, "NAME").unwrap(),
                    language: attribute(value, "LANGUAGE"),
                    uri: attribute(value, "URI"),
                    channels: attribute(value, "CHANNELS"),
                    is_default: is("DEFAULT"),
                    is_automatic: is("AUTOSELECT"),
                });
            }
            "#EXT-X-STREAM-INF" => {
                assert!(list.uri.is_empty() && !is_next, "another variant: {text}");
                list.bandwidth = attribute(value, "BANDWIDTH").unwrap().parse().unwrap();
                let average = attribute(value, "AVERAGE-BANDWIDTH").unwrap();
                assert!(average.parse::<u64>().unwrap() <= list.bandwidth, "{line}");
                let codecs = attribute(value, "CODECS").unwrap();
                list.codecs = codecs.split(',').map(str::to_owned).collect();
                group = attribute(value, "AUDIO");
                is_next = true;
            }
            _ if line.starts_with('#') || line.is_empty() => {}
            _ => {
                assert!(std::mem::take(&mut is_next), "a URI without EXT-X-STREAM-INF: {text}");
                line.clone_into(&mut list.uri);
            }
        }
    }
    assert!(!list.uri.is_empty(), "{text}");
    // s4.3.4.2.1: the group of the variant is there, and no other one.
    assert!(groups.iter().all(|of| Some(of) == group.as_ref()), "{text}");
    assert_eq!(groups.is_empty(), group.is_none(), "{text}");
    list.assert_group();
    list
}

impl Multivariant {
    /// Rules of a group of renditions (RFC 8216 s4.3.4.1.1).
    fn assert_group(&self) {
        for (place, sound) in self.sounds.iter().enumerate() {
            let others = &self.sounds[..place];
            assert!(others.iter().all(|other| other.name != sound.name), "{:?}", self.sounds);
            assert!(!sound.is_default || sound.is_automatic, "{sound:?}");
            let same =
                |other: &&SoundChoice| other.is_automatic && other.language == sound.language;
            assert!(!sound.is_automatic || !others.iter().any(|other| same(&other)), "{sound:?}");
            assert!(sound.channels.is_some(), "{sound:?}");
        }
        let defaults = self.sounds.iter().filter(|sound| sound.is_default).count();
        assert!(defaults <= 1, "{:?}", self.sounds);
    }
}

/// Renditions of one variant have the same segments, by number and time (RFC 8216 s6.2.4).
pub(crate) fn assert_aligned(lists: &[Playlist]) {
    for pair in lists.windows(2) {
        assert_eq!((pair[0].target, pair[0].sequence), (pair[1].target, pair[1].sequence));
        let times = |list: &Playlist| -> Vec<(f64, bool)> {
            list.segments.iter().map(|of| (of.duration, of.is_discontinuous)).collect()
        };
        assert_eq!(times(&pair[0]), times(&pair[1]));
    }
}

/// Reads a media playlist and holds it to the rules of RFC 8216 s4 and s6 and of
/// draft-pantos-hls-rfc8216bis s4.4.
pub(crate) fn check(text: &str) -> Playlist {
    assert!(text.starts_with("#EXTM3U\n"), "{text}");
    let mut list = Playlist::default();
    let (mut segment, mut duration) = (Segment::default(), None);
    let mut seen: Vec<&str> = Vec::new();
    for line in text.lines().skip(1) {
        let (tag, value) = line.split_once(':').unwrap_or((line, ""));
        let once = [
            "#EXT-X-VERSION",
            "#EXT-X-TARGETDURATION",
            "#EXT-X-MEDIA-SEQUENCE",
            "#EXT-X-DISCONTINUITY-SEQUENCE",
            "#EXT-X-ENDLIST",
            "#EXT-X-PART-INF",
            "#EXT-X-SERVER-CONTROL",
        ];
        if once.contains(&tag) {
            assert!(!seen.contains(&tag), "{tag} twice");
            seen.push(tag);
        }
        match tag {
            "#EXT-X-TARGETDURATION" => list.target = value.parse().unwrap(),
            "#EXT-X-MEDIA-SEQUENCE" => {
                assert!(list.segments.is_empty());
                list.sequence = value.parse().unwrap();
            }
            "#EXT-X-DISCONTINUITY-SEQUENCE" => {
                assert!(list.segments.is_empty());
                list.discontinuity_sequence = value.parse().unwrap();
            }
            "#EXT-X-PART-INF" => {
                list.part_target = Some(attribute(value, "PART-TARGET").unwrap().parse().unwrap());
            }
            "#EXT-X-SERVER-CONTROL" => {
                let hold_back = attribute(value, "PART-HOLD-BACK").unwrap();
                list.part_hold_back = Some(hold_back.parse().unwrap());
            }
            "#EXT-X-MAP" => segment.map = attribute(value, "URI").unwrap(),
            "#EXT-X-DISCONTINUITY" => segment.is_discontinuous = true,
            "#EXT-X-GAP" => segment.is_gap = true,
            "#EXT-X-PART" => segment.parts.push(Part {
                uri: attribute(value, "URI").unwrap(),
                duration: attribute(value, "DURATION").unwrap().parse().unwrap(),
                is_independent: attribute(value, "INDEPENDENT").as_deref() == Some("YES"),
            }),
            "#EXT-X-PRELOAD-HINT" => list.hint = attribute(value, "URI"),
            "#EXT-X-ENDLIST" => list.is_ended = true,
            "#EXTINF" => {
                let seconds = value.strip_suffix(',').unwrap_or(value);
                duration = Some(seconds.parse::<f64>().unwrap());
            }
            _ if line.starts_with('#') || line.is_empty() => {}
            _ => {
                segment.duration = duration.take().expect("EXTINF is in front of each URI");
                line.clone_into(&mut segment.uri);
                let map = segment.map.clone();
                list.segments.push(std::mem::take(&mut segment));
                segment.map = map;
            }
        }
    }
    list.open_parts = segment.parts;
    list.assert_rules();
    list
}

impl Playlist {
    fn assert_rules(&self) {
        assert!(self.target > 0, "a target duration is needed");
        for segment in &self.segments {
            let rounded = segment.duration.round();
            assert!(rounded <= self.target as f64, "{segment:?} is above {}", self.target);
            assert!(segment.duration > 0.0 && !segment.map.is_empty(), "{segment:?}");
            if !segment.parts.is_empty() {
                let sum: f64 = segment.parts.iter().map(|part| part.duration).sum();
                assert!((sum - segment.duration).abs() < 1e-5, "{segment:?}: parts are {sum}");
            }
        }
        let Some(part_target) = self.part_target else { return };
        assert!(self.part_hold_back.unwrap() >= 2.0 * part_target);
        for parts in self.segments.iter().map(|segment| &segment.parts).chain([&self.open_parts]) {
            for (place, part) in parts.iter().enumerate() {
                assert!(part.duration <= part_target + 1e-6, "{part:?} is above {part_target}");
                let is_last = place + 1 == parts.len();
                assert!(is_last || part.duration >= 0.85 * part_target, "{part:?}: {part_target}");
            }
        }
        assert!(self.is_ended || self.hint.is_some());
    }

    /// What may change from one state of a live playlist to a later one (RFC 8216 s6.2.1).
    pub(crate) fn assert_follows(&self, before: &Self) {
        assert_eq!((self.target, self.part_target), (before.target, before.part_target));
        assert!(self.sequence >= before.sequence);
        let removed = usize::try_from(self.sequence - before.sequence).unwrap();
        let gone = before.segments.iter().take(removed);
        let breaks = gone.filter(|segment| segment.is_discontinuous).count() as u64;
        assert_eq!(self.discontinuity_sequence, before.discontinuity_sequence + breaks);
        for (now, then) in self.segments.iter().zip(before.segments.iter().skip(removed)) {
            assert_eq!((&now.uri, now.duration), (&then.uri, then.duration));
        }
    }

    /// Seconds of all segments.
    pub(crate) fn seconds(&self) -> f64 {
        self.segments.iter().map(|segment| segment.duration).sum()
    }
}
