//! Where the packets of a path come from, as the configuration says it.
//!
//! ```text
//!  publish                                   whoever announces it
//!  rtsp://user:secret@10.0.0.5/stream1       fetched from a camera or another server
//!  rtsp://[fe80::5%25eth1]/stream1           at a link-local address, by interface eth1
//!  udp://239.1.2.3:5004[?source=10.0.0.9][&interface=eth1]   RTP or MPEG-TS
//!  file:cam.sdp                              RTP as a description tells
//!  vod/film.mp4, demo                        a title of the library, again and again
//! ```
//! A relative name of a file is one in the working directory of the server.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::base::host::Host;
use crate::base::names::{CLIP_NAME, Name, is_path_name, without_end};
use crate::base::secrets::shown_url;
use crate::rtsp::source_url::{SourceUrl, SourceUrlError, parse_source_url};

/// The source of a path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SourceAddress {
    /// Whoever announces it.
    #[default]
    Publish,
    /// A camera, or another server.
    Rtsp(SourceUrl),
    /// RTP or MPEG-TS at an address of ours, or to a group.
    Udp(UdpSource),
    /// RTP as the description in this file tells.
    Sdp(PathBuf),
    /// A title, by its path in URLs, decoded.
    Title(String),
}

/// `source_tls`: which `rtsps://` sources are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SourceTls {
    /// One whose certificate is signed by a CA of this machine, for the host of the URL.
    #[default]
    Verify,
    /// Any: whoever sits in between may read and change what comes.
    Off,
    /// The one whose certificate has this SHA-256.
    Pinned([u8; 32]),
}

impl SourceTls {
    /// Reads `verify`, `off`, or `sha256:` with 64 digits, which may have colons between them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "verify" => return Some(Self::Verify),
            "off" => return Some(Self::Off),
            _ => {}
        }
        let digits = text.strip_prefix(FINGERPRINT)?.replace(':', "");
        let mut pin = [0; 32];
        if digits.len() != 2 * pin.len() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        for (place, byte) in pin.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits.get(2 * place..2 * place + 2)?, 16).ok()?;
        }
        Some(Self::Pinned(pin))
    }
}

impl std::fmt::Display for SourceTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Verify => f.write_str("verify"),
            Self::Off => f.write_str("off"),
            Self::Pinned(pin) => {
                f.write_str(FINGERPRINT)?;
                pin.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

const FINGERPRINT: &str = "sha256:";

/// Where datagrams come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpSource {
    /// Group, or address of ours (unspecified: any), and port.
    pub to: SocketAddr,
    /// Only from this sender (source-specific multicast, RFC 4607).
    pub sender: Option<IpAddr>,
    /// Name of the interface that joins the group; otherwise the routing table says.
    pub interface: Option<String>,
}

/// Why a text is no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceAddressError {
    /// None of the forms.
    #[error("`{text}` is none of publish, rtsp://.., udp://ADDRESS:PORT, file:NAME.sdp, vod/TITLE")]
    Form {
        /// What was found.
        text: String,
    },
    /// Of titles, and none.
    #[error("`{text}` is no title: name one of the library as in URLs, such as vod/slate.mp4")]
    Title {
        /// What was found.
        text: String,
    },
    /// An RTSP URL that cannot be.
    #[error(transparent)]
    Url(#[from] SourceUrlError),
    /// A link-local address means another host on each interface.
    #[error("{host} is link-local: name its interface, as in rtsp://[{host}%25eth0]/..")]
    Zone {
        /// What was found.
        host: String,
    },
    /// No address and port behind `udp://`.
    #[error("`{text}` is not an address like 239.1.2.3:5004, 0.0.0.0:5004 or [ff15::1]:5004")]
    Address {
        /// What was found.
        text: String,
    },
    /// An address that means another host or group on each interface.
    #[error("`{to}` means something on one interface only: add interface=NAME behind ?")]
    Interface {
        /// What was found.
        to: SocketAddr,
    },
    /// A word behind `?` that means nothing.
    #[error("`{text}` is neither source=ADDRESS nor interface=NAME")]
    Option {
        /// What was found.
        text: String,
    },
}

impl SourceAddress {
    /// Reads a source.
    ///
    /// # Errors
    /// See [`SourceAddressError`].
    pub fn parse(text: &str) -> Result<Self, SourceAddressError> {
        let text = text.trim();
        let scheme = text.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
        match scheme.as_deref() {
            None if text == "publish" => Ok(Self::Publish),
            _ if Name::parse(without_end(text)).is_of_titles() => Self::parse_title(text),
            Some("rtsp" | "rtsps") => match parse_source_url(text)? {
                url if url.lacks_zone() => Err(SourceAddressError::Zone { host: url.host }),
                url => Ok(Self::Rtsp(url)),
            },
            Some("udp") if text[4..].starts_with("//") => parse_udp(&text[6..]).map(Self::Udp),
            Some("file") => {
                let name = text[5..].strip_prefix("//").unwrap_or_else(|| &text[5..]);
                if name.is_empty() {
                    return Err(SourceAddressError::Form { text: text.to_owned() });
                }
                Ok(Self::Sdp(PathBuf::from(name)))
            }
            _ => Err(SourceAddressError::Form { text: without_secret(text) }),
        }
    }

    /// The clip, or a title; not the folder of titles, and no name that leads out of it.
    fn parse_title(text: &str) -> Result<Self, SourceAddressError> {
        let written = without_end(text);
        let is_title = match Name::parse(written) {
            // Inside the server that name is the clip's.
            Name::Title(name) => is_path_name(name) && name != CLIP_NAME,
            name => name == Name::Clip,
        };
        let error = || SourceAddressError::Title { text: text.to_owned() };
        is_title.then(|| Self::Title(written.to_owned())).ok_or_else(error)
    }

    /// Whether it is fetched, not published.
    #[must_use]
    pub fn is_fetched(&self) -> bool {
        *self != Self::Publish
    }
}

impl std::fmt::Display for SourceAddress {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Publish => write!(f, "publish"),
            Self::Rtsp(url) => write!(f, "{url}"),
            Self::Udp(UdpSource { to, sender, interface }) => {
                write!(f, "udp://{to}")?;
                let sender = sender.map(|sender| format!("source={sender}"));
                let interface = interface.as_ref().map(|name| format!("interface={name}"));
                let options: Vec<String> = sender.into_iter().chain(interface).collect();
                if options.is_empty() { Ok(()) } else { write!(f, "?{}", options.join("&")) }
            }
            Self::Sdp(file) => write!(f, "file:{}", file.display()),
            Self::Title(name) => write!(f, "{name}"),
        }
    }
}

/// Errors are logged: what stands in front of an `@` may be a password.
pub(super) fn without_secret(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
    match rest.rsplit_once('@') {
        Some((_, rest)) if scheme.is_empty() => format!("...@{}", shown_url(rest)),
        Some((_, rest)) => format!("{scheme}://...@{}", shown_url(rest)),
        None => shown_url(text),
    }
}

fn parse_udp(text: &str) -> Result<UdpSource, SourceAddressError> {
    let (address, options) = text.split_once('?').unwrap_or((text, ""));
    let to: SocketAddr = address
        .trim_end_matches('/')
        .parse()
        .ok()
        .filter(|to: &SocketAddr| to.port() != 0)
        .ok_or_else(|| SourceAddressError::Address { text: without_secret(address) })?;
    let mut source = UdpSource { to, sender: None, interface: None };
    for option in options.split('&').filter(|option| !option.is_empty()) {
        let wrong = || SourceAddressError::Option { text: shown_url(option) };
        match option.split_once('=') {
            Some(("source", sender)) => {
                let sender: IpAddr = sender.parse().map_err(|_| wrong())?;
                if sender.is_ipv4() != to.is_ipv4() {
                    return Err(wrong());
                }
                source.sender = Some(sender);
            }
            Some(("interface", name)) if !name.is_empty() => {
                source.interface = Some(name.to_owned());
            }
            _ => return Err(wrong()),
        }
    }
    if source.interface.is_none() && Host::of(to).lacks_interface() {
        return Err(SourceAddressError::Interface { to });
    }
    Ok(source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sources_read_and_shown_are_the_same() {
        for text in [
            "publish",
            "rtsp://10.0.0.5/stream1",
            "rtsp://cam:8322/x?y=1",
            "rtsp://[fe80::5%25eth1]:8554/x",
            "udp://239.1.2.3:5004",
            "rtsps://cam/x",
            "udp://232.1.2.3:5004?source=10.0.0.9&interface=eth1",
            "udp://[ff15::1]:5004?interface=lo",
            "udp://[ff02::7701]:5004?interface=lo",
            "udp://[fe80::5%3]:5004",
            "udp://0.0.0.0:5004",
            "file:cam.sdp",
            "file:/etc/headend/cam.sdp",
            "vod/a b.mp4",
            "vod/x/y:z@w.mov",
            "demo",
        ] {
            assert_eq!(SourceAddress::parse(text).unwrap().to_string(), text);
        }
        let shown = SourceAddress::parse("rtsp://a:secret@cam/x").unwrap().to_string();
        assert_eq!(shown, "rtsp://cam/x");
    }

    #[test]
    fn fingerprint_reads_with_and_without_colons_and_nothing_else_does() {
        let digits = "0123456789abcdef".repeat(4);
        let with_colons = digits.as_bytes().chunks(2).map(|two| String::from_utf8_lossy(two));
        let with_colons = with_colons.collect::<Vec<_>>().join(":").to_uppercase();
        let pinned = SourceTls::parse(&format!("sha256:{digits}")).unwrap();
        assert_eq!(SourceTls::parse(&format!("sha256:{with_colons}")), Some(pinned));
        for text in ["verify", "off", &pinned.to_string()] {
            assert_eq!(SourceTls::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "on", "sha256:", "sha256:12", &digits, &format!("sha256:{digits}0")] {
            assert_eq!(SourceTls::parse(text), None, "{text}");
        }
        assert_eq!(SourceTls::parse(&format!("sha256:{}", "\u{e9}".repeat(32))), None);
    }

    #[test]
    fn what_is_no_source_is_refused_with_the_reason() {
        for (text, why) in [
            ("rtmp://x/y", "none of publish"),
            ("", "none of publish"),
            ("file:", "none of publish"),
            ("live/a", "none of publish"),
            ("vod", "`vod` is no title"),
            ("vod/", "is no title"),
            ("vod/../a.mp4", "is no title"),
            ("vod/a//b.mp4", "is no title"),
            ("vod/demo", "is no title"),
            ("udp:239.1.2.3:5004", "none of publish"),
            ("rtsp://", "no host"),
            ("rtsp://[fe80::5]/x", "name its interface, as in rtsp://[fe80::5%25eth0]/"),
            ("rtsp://[fe80::5%]/x", "names no network interface"),
            ("rtsp://[::1%lo]/x", "only link-local"),
            ("udp://239.1.2.3", "not an address"),
            ("udp://239.1.2.3:0", "not an address"),
            ("udp://[fe80::5]:5004", "add interface=NAME"),
            ("udp://[ff02::7701]:5004", "add interface=NAME"),
            ("udp://239.1.2.3:5004?ttl=3", "neither source="),
            ("udp://239.1.2.3:5004?source=::1", "neither source="),
        ] {
            let error = SourceAddress::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn refusal_does_not_repeat_a_password() {
        for text in ["rtps://me:s3cret@cam/x", "me:s3cret@cam", "udp://me:s3cret@1.2.3.4:5"] {
            let error = SourceAddress::parse(text).unwrap_err().to_string();
            assert!(!error.contains("s3cret") && error.contains("...@"), "{error}");
        }
        for text in ["http://cam/x?token=s3cret", "udp://1.2.3.4:5?password=s3cret"] {
            let error = SourceAddress::parse(text).unwrap_err().to_string();
            assert!(!error.contains("s3cret") && error.contains("=..."), "{error}");
        }
        let shown = SourceAddress::parse("rtsp://cam/x?user=a&password=s3cret").unwrap();
        assert_eq!(shown.to_string(), "rtsp://cam/x?user=a&password=...");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_panic(text in "(udp://|file:|rtsp://)?\\PC{0,20}") {
            let _ = SourceAddress::parse(&text);
        }
    }
}
