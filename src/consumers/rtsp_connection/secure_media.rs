//! Keys of SRTP on a connection: told in descriptions, used in SETUP (RFC 4568, RFC 4567).
//!
//! ```text
//!  DESCRIBE ..?srtp   --> 200, SDP with SAVP and a key for each media     one key, told both ways
//!  SETUP, KeyMgmt     --> the key that was told, and the client's  --> 200 uses the key up
//! ```
//! Invariants: keys are told over TLS only; a key serves one SETUP that was answered with 200; who
//! was told a key on this connection is sent nothing in the clear unless a newer description has no
//! keys. Another connection does not know what was told on this one.
//! Bounds: `DESCRIPTIONS_MAX` descriptions whose keys are kept, the newest ones. Once one was
//! forgotten, a SETUP without keys is refused for all that has no description here.

use rand::Rng;

use super::RtspConnection;
use crate::base::random;
use crate::base::secrets::shown_url;
use crate::config::secure::SrtpMode;
use crate::consumers::Context;
use crate::consumers::asked::{Asked, AskedMedia};
use crate::rtcp::ntp_from_utc_ns;
use crate::rtp::srtp::mikey::{self, Mikey, Uniques};
use crate::rtp::srtp::{MasterKey, Suite, sdes};
use crate::rtsp::key_mgmt::{parse_key_mgmt, write_key_mgmt, write_key_mgmt_attribute};
use crate::rtsp::request::{Method, Request};
use crate::rtsp::response::{Response, Status};
use crate::rtsp::uri::Target;
use crate::sdp::secure::{KeyLines, with_keys};
use crate::session::srtp::{SrtpPermission, StreamKeys};

/// Keys that a connection has told, or is to tell.
#[derive(Debug, Default)]
pub(super) struct MediaKeys {
    /// Descriptions, the newest last.
    told: Vec<Told>,
    /// A description was forgotten: what it said is not known.
    has_forgotten: bool,
    /// Message of the server in the answer to the SETUP at hand.
    answer: Option<String>,
    /// Keys were told, or taken for a SETUP: packets of this connection may have to be encrypted.
    are_used: bool,
}

/// The keys of a description.
#[derive(Debug)]
struct Told {
    path: String,
    /// By track.
    keys: Vec<ToldKey>,
}

/// What a description said of a media.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ToldKey {
    /// No key: its streams are sent in the clear.
    Untold,
    /// This key, for the next SETUP.
    Told(MasterKey),
    /// A key that has served a SETUP, or nobody knows what any more.
    Gone,
}

impl MediaKeys {
    /// Whether packets of the connection may have to be encrypted.
    pub(super) fn are_used(&self) -> bool {
        self.are_used
    }

    fn told(&self, path: &str, track: u8) -> &ToldKey {
        match self.told.iter().find(|told| told.path == path) {
            Some(told) => told.keys.get(usize::from(track)).unwrap_or(&ToldKey::Untold),
            None if self.has_forgotten => &ToldKey::Gone,
            None => &ToldKey::Untold,
        }
    }

    fn use_up(&mut self, path: &str, track: u8) {
        for told in self.told.iter_mut().filter(|told| told.path == path) {
            if let Some(key @ ToldKey::Told(_)) = told.keys.get_mut(usize::from(track)) {
                *key = ToldKey::Gone;
            }
        }
    }

    /// A description was told; without keys if it has none.
    fn tell(&mut self, path: &str, keys: Vec<ToldKey>) {
        let known = self.told.len();
        self.told.retain(|told| told.path != path);
        // What was never told a key and needs no place is not remembered.
        if keys.is_empty() && known == self.told.len() && !self.has_forgotten {
            return;
        }
        if self.told.len() == DESCRIPTIONS_MAX {
            self.told.remove(0);
            self.has_forgotten = true;
        }
        self.told.push(Told { path: path.to_owned(), keys });
    }
}

impl RtspConnection {
    /// What a request may do with SRTP.
    ///
    /// # Errors
    /// The answer to a request that asks for what is not served.
    pub(super) fn srtp_leave(
        &mut self,
        request: &Request,
        target: &Target,
        cx: &Context<'_>,
    ) -> Result<SrtpPermission, Status> {
        let mode = cx.sessions.cx.config.srtp;
        // The kernel's TLS is for what needs no other encryption.
        let is_served = self.has_tls() && mode != SrtpMode::Off;
        let is_required = mode == SrtpMode::Required;
        let leave = SrtpPermission { is_served, is_required, keys: None };
        self.media_keys.answer = None;
        match request.method {
            Method::Describe | Method::Announce | Method::Setup if is_required && !is_served => {
                self.note_refused(request, "rtsp.srtp is required, and keys go over RTSPS only");
                return Err(Status::Forbidden);
            }
            Method::Describe => {
                match wanted_suite(target.query.as_deref()) {
                    Ok(Some(_)) if !is_served => {
                        self.note_refused(
                            request,
                            "SRTP is off, or the shard does not encrypt this connection",
                        );
                        return Err(Status::Forbidden);
                    }
                    Ok(_) => {}
                    Err(()) => {
                        self.note_refused(request, "the suite in ?srtp= is not known");
                        return Err(Status::BadRequest);
                    }
                }
                return Ok(leave);
            }
            Method::Setup if is_served => {}
            _ => return Ok(leave),
        }
        let theirs = request.header("KeyMgmt").map(|header| self.their_key(request, header));
        let theirs = theirs.transpose()?;
        let (path, track) = media_of(target);
        let told = self.media_keys.told(path, track);
        let ours = match (told, &theirs) {
            (ToldKey::Told(key), _) => key.clone(),
            (ToldKey::Untold | ToldKey::Gone, Some(theirs)) => {
                MasterKey::random(theirs.key.suite(), &mut random::rng())
            }
            (ToldKey::Untold, None) => return Ok(leave),
            (ToldKey::Gone, None) => {
                self.note_refused(request, "its key is used, and DESCRIBE tells the next one");
                return Err(Status::UnsupportedTransport);
            }
        };
        let is_in_our_description = *told != ToldKey::Untold;
        let sources = theirs.as_ref().map(|theirs| theirs.sources.clone());
        if theirs.is_some() {
            let message = mikey::write(&ours, &[], &uniques(cx));
            self.media_keys.answer = Some(write_key_mgmt(&request.uri, &message));
        }
        let theirs = theirs.map_or_else(|| ours.clone(), |theirs| theirs.key);
        let rocs = sources.unwrap_or_default();
        let keys = StreamKeys { ours, theirs, rocs, is_in_our_description };
        self.media_keys.are_used = true;
        Ok(SrtpPermission { keys: Some(Box::new(keys)), ..leave })
    }

    fn their_key(&self, request: &Request, header: &str) -> Result<Mikey, Status> {
        let message = parse_key_mgmt(header).map_err(|error| {
            self.note_refused(request, &error.to_string());
            Status::BadRequest
        })?;
        mikey::parse(&message).map_err(|error| {
            self.note_refused(request, &error.to_string());
            match error {
                mikey::MikeyError::NotCarried { .. } => Status::UnsupportedTransport,
                _ => Status::BadRequest,
            }
        })
    }

    fn note_refused(&self, request: &Request, why: &str) {
        let (peer, url) = (self.peer, shown_url(&request.uri));
        tracing::info!(code = "HE-I209", %peer, url, "SRTP refused: {why}");
    }

    /// Whether media of this connection is, or may be, encrypted packet by packet.
    #[must_use]
    pub fn has_srtp(&self) -> bool {
        self.media_keys.are_used
    }

    /// The answer with what it has of keys: those of a description, or that of the server.
    pub(super) fn with_keys(
        &mut self,
        response: Response,
        asked: &Asked,
        cx: &Context<'_>,
    ) -> Response {
        let Some(media) = asked.media.as_deref().filter(|_| self.has_tls()) else {
            return response;
        };
        if response.status() != Status::Ok || cx.sessions.cx.config.srtp == SrtpMode::Off {
            return response;
        }
        match media {
            AskedMedia::Describe { path, query, base } => {
                let is_required = cx.sessions.cx.config.srtp == SrtpMode::Required;
                match wanted_suite(query.as_deref()) {
                    Ok(Some(suite)) => self.describe_keys(response, (path, base), suite, cx),
                    _ if is_required => {
                        self.describe_keys(response, (path, base), Suite::ALL[0], cx)
                    }
                    _ => {
                        self.media_keys.tell(path, Vec::new());
                        response
                    }
                }
            }
            AskedMedia::Setup { path, track } => {
                self.media_keys.use_up(path, *track);
                let transport = response.header_value("Transport").unwrap_or_default();
                let is_secure = transport.starts_with("RTP/SAVP");
                match self.media_keys.answer.take().filter(|_| is_secure) {
                    Some(answer) => response.header("KeyMgmt", answer),
                    None => response,
                }
            }
        }
    }

    fn describe_keys(
        &mut self,
        mut response: Response,
        (path, base): (&str, &str),
        suite: Suite,
        cx: &Context<'_>,
    ) -> Response {
        let Ok(text) = std::str::from_utf8(response.body_bytes()) else { return response };
        self.media_keys.are_used = true;
        let mut keys = Vec::new();
        let text = with_keys(text, |index| {
            let key = MasterKey::random(suite, &mut random::rng());
            let message = mikey::write(&key, &[], &uniques(cx));
            let lines = [
                format!("crypto:{}", sdes::write(1, &key)),
                format!("key-mgmt:{}", write_key_mgmt_attribute(&message)),
            ];
            keys.resize(index, ToldKey::Untold);
            keys.push(ToldKey::Told(key));
            KeyLines(lines)
        });
        response.set_body(text.into_bytes());
        response.set_header("Content-Base", base);
        self.media_keys.tell(path, keys);
        response
    }
}

/// The stream that a SETUP is about; without a number it is the only one.
pub(in crate::consumers) fn media_of(target: &Target) -> (&str, u8) {
    (target.path.trim_end_matches('/'), target.track.unwrap_or(0))
}

/// A URL without what a query says of SRTP.
pub(in crate::consumers) fn without_srtp(uri: &str) -> String {
    let Some((front, query)) = uri.split_once('?') else { return uri.to_owned() };
    let is_other = |part: &&str| {
        let name = part.split_once('=').map_or(*part, |(name, _)| name);
        !name.trim_end_matches('/').eq_ignore_ascii_case("srtp")
    };
    let kept: Vec<&str> = query.split('&').filter(is_other).collect();
    if kept.is_empty() { front.to_owned() } else { format!("{front}?{}", kept.join("&")) }
}

/// `srtp` or `srtp=SUITE` in a query. `None`: there is none.
fn wanted_suite(query: Option<&str>) -> Result<Option<Suite>, ()> {
    let parts = query.unwrap_or_default().split('&').map(|part| part.trim_end_matches('/'));
    let mut values = parts.map(|part| part.split_once('=').unwrap_or((part, "")));
    match values.find(|(name, _)| name.eq_ignore_ascii_case("srtp")) {
        None => Ok(None),
        Some((_, "")) => Ok(Some(Suite::ALL[0])),
        Some((_, name)) => Suite::of_name(name).map(Some).ok_or(()),
    }
}

fn uniques(cx: &Context<'_>) -> Uniques {
    let mut rng = random::rng();
    let mut random = [0; 16];
    rng.fill_bytes(&mut random);
    Uniques { bundle: rng.next_u32(), ntp: ntp_from_utc_ns(cx.sessions.cx.utc_ns), random }
}

/// Players describe one presentation; proxies put a few on one connection.
const DESCRIPTIONS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_names_a_suite_or_the_usual_one() {
        for (query, suite) in [
            (None, Ok(None)),
            (Some("token=srtp"), Ok(None)),
            (Some("srtp"), Ok(Some(Suite::AesCm128Sha1Tag80))),
            (Some("a=b&SRTP=/"), Ok(Some(Suite::AesCm128Sha1Tag80))),
            (Some("srtp=aead_aes_128_gcm"), Ok(Some(Suite::Aes128Gcm))),
            (Some("srtp=rot13"), Err(())),
        ] {
            assert_eq!(wanted_suite(query), suite, "{query:?}");
        }
    }

    #[test]
    fn base_of_control_urls_has_the_rest_of_the_query() {
        for (uri, base) in [
            ("rtsps://h/a", "rtsps://h/a"),
            ("rtsps://h/a?srtp", "rtsps://h/a"),
            ("rtsps://h/a?SRTP=x/", "rtsps://h/a"),
            ("rtsps://h/a?t=1&srtp&u=srtp", "rtsps://h/a?t=1&u=srtp"),
        ] {
            assert_eq!(without_srtp(uri), base, "{uri}");
        }
    }

    #[test]
    fn key_serves_one_setup_and_nobody_who_was_told_one_is_served_without() {
        let key = ToldKey::Told(MasterKey::random(Suite::Aes128Gcm, &mut random::rng()));
        let mut keys = MediaKeys::default();
        keys.tell("demo", vec![key.clone(), ToldKey::Untold]);
        assert_eq!((keys.told("demo", 0), keys.told("demo", 1)), (&key, &ToldKey::Untold));
        for (path, track) in [("demo", 2), ("other", 0)] {
            assert_eq!(keys.told(path, track), &ToldKey::Untold, "{path} {track}");
        }
        (0..3).for_each(|track| keys.use_up("demo", track));
        assert_eq!(keys.told("demo", 0), &ToldKey::Gone);
        assert_eq!(keys.told("demo", 1), &ToldKey::Untold, "it had none");
        keys.tell("demo", Vec::new());
        assert_eq!(keys.told("demo", 0), &ToldKey::Untold, "the newest description has no keys");
        (0..100).for_each(|number| keys.tell(&format!("clear{number}"), Vec::new()));
        assert!(!keys.has_forgotten, "what has no keys takes no place");
        (0..9).for_each(|number| keys.tell(&format!("p{number}"), vec![key.clone()]));
        assert_eq!(keys.told.len(), DESCRIPTIONS_MAX);
        assert_eq!(keys.told("p8", 0), &key);
        assert_eq!(keys.told("p0", 0), &ToldKey::Gone, "it was forgotten");
        keys.tell("p0", Vec::new());
        assert_eq!(keys.told("p0", 0), &ToldKey::Untold);
    }
}
