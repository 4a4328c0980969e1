//! URLs on the client's side: that of a source, and those of its streams (RFC 2326 s3.2, C.1.1).
//!
//! ```text
//! rtsp://user:secret@cam:8554/live?x=1   -> host, port, credentials; rtsp://cam:8554/live?x=1
//! Content-Base | Content-Location | request -> base;   base + a=control -> URL for SETUP
//! ```
//! A link-local address has a zone behind it, the name or number of the interface (RFC 6874);
//! people type a single per cent sign:
//! ```text
//! rtsp://[fe80::7%25eth0]/live   -> host, zone; rtsp://[fe80::7]/live
//! rtsp://[fe80::7%eth0]/live     -> the same
//! ```
//! Relative URLs are glued behind the base with one slash, as all clients do and all servers expect
//! (client rule C4), also behind a query; by RFC 3986 the last part of the base would go.
//! Invariant: neither credentials nor a zone, which means something here alone (RFC 6874 s3), are
//! part of a URL that is sent.
#![deny(clippy::indexing_slicing)]

use std::fmt;
use std::net::Ipv6Addr;

use percent_encoding::{percent_decode_str, utf8_percent_encode};

use crate::base::host::needs_interface;
use crate::base::secrets::shown_url;
use crate::base::url_path::UNRESERVED;

/// URL of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceUrl {
    /// `rtsps`: TLS around the connection.
    pub is_secure: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// Name or number of the interface that a link-local address is reached by.
    pub zone: Option<String>,
    /// 554 (322 for rtsps) unless it is given.
    pub port: u16,
    /// What stood in front of `@`.
    pub credentials: Option<Credentials>,
    /// For requests.
    pub url: String,
}

impl SourceUrl {
    /// The host is a link-local address whose interface is not said.
    #[must_use]
    pub fn lacks_zone(&self) -> bool {
        self.zone.is_none() && is_link_local(&self.host)
    }
}

impl fmt::Display for SourceUrl {
    /// With the zone, without credentials and other secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = shown_url(&self.url);
        match (&self.zone, url.split_once(']')) {
            (Some(zone), Some((before, behind))) => {
                // RFC 6874 s2.
                let zone = utf8_percent_encode(zone, UNRESERVED);
                write!(f, "{before}%25{zone}]{behind}")
            }
            _ => f.write_str(&url),
        }
    }
}

/// Name and password of a user.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Name.
    pub user: String,
    /// Not shown by `Debug`.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Why a text is no URL of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceUrlError {
    /// Neither rtsp:// nor rtsps://.
    #[error("source URL begins neither with rtsp:// nor with rtsps://")]
    Scheme,
    /// No host.
    #[error("source URL has no host")]
    NoHost,
    /// Not a number from 1 to 65535.
    #[error("port of the source URL is not a number from 1 to 65535")]
    Port,
    /// A space or a control character: it would end a request line.
    #[error("source URL has a blank or a control character")]
    Character,
    /// Behind `%` is nothing that an interface can be called.
    #[error("source URL names no network interface behind %")]
    Zone,
    /// A zone, and an address that means the same on every interface.
    #[error("source URL has an interface behind %, which only link-local addresses (fe80::) have")]
    NeedlessZone,
}

/// Reads the URL of a source.
///
/// # Errors
/// See [`SourceUrlError`].
pub fn parse_source_url(text: &str) -> Result<SourceUrl, SourceUrlError> {
    if text.chars().any(|c| c.is_control() || c == ' ') {
        return Err(SourceUrlError::Character);
    }
    let (scheme, rest) = text.split_once("://").ok_or(SourceUrlError::Scheme)?;
    let is_secure = match scheme.to_ascii_lowercase().as_str() {
        "rtsp" => false,
        "rtsps" => true,
        _ => return Err(SourceUrlError::Scheme),
    };
    // A password may have an `@` that nobody has encoded: the last one before the path counts.
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let (user_info, host_port) = match authority.rsplit_once('@') {
        Some((user_info, host_port)) => (Some(user_info), host_port),
        None => (None, authority),
    };
    let HostPort { host, zone, port, behind } = split_host(host_port)?;
    let port = match port {
        "" if is_secure => 322,
        "" => 554,
        digits => {
            let is_digits = digits.bytes().all(|b| b.is_ascii_digit());
            let port = is_digits.then(|| digits.parse().ok()).flatten().filter(|port| *port > 0);
            port.ok_or(SourceUrlError::Port)?
        }
    };
    let scheme = scheme.to_ascii_lowercase();
    let url = match zone {
        Some(_) => format!("{scheme}://[{host}]{behind}{path}"),
        None => format!("{scheme}://{host_port}{path}"),
    };
    Ok(SourceUrl {
        is_secure,
        host: host.to_owned(),
        zone,
        port,
        credentials: user_info.map(parse_credentials),
        url,
    })
}

/// The URL that relative control URLs are resolved against (RFC 2326 C.1.1). Values that are no
/// URLs (an empty `Content-Base` is seen) are passed over; one without a scheme gets it.
#[must_use]
pub fn content_base(
    request_url: &str,
    content_base: Option<&str>,
    content_location: Option<&str>,
) -> String {
    let given = [content_base, content_location].into_iter().flatten().map(str::trim);
    let mut usable = given.filter(|url| !url.is_empty() && !url.contains([' ', '"']));
    let Some(url) = usable.next() else { return request_url.to_owned() };
    let Some((scheme, authority)) = scheme_and_authority(request_url) else {
        return url.to_owned();
    };
    if is_absolute(url) {
        without_credentials(url)
    } else if url.starts_with('/') {
        format!("{scheme}://{authority}{url}")
    } else if is_behind(url, authority) {
        // Host and path without a scheme: some cameras forget it.
        without_credentials(&format!("{scheme}://{url}"))
    } else {
        glued(request_url, url)
    }
}

/// The URL for requests about a stream, or the whole: `control` is the value of `a=control`,
/// `base` comes from [`content_base`].
#[must_use]
pub fn control_url(base: &str, control: Option<&str>) -> String {
    match control.map(str::trim) {
        None | Some("" | "*") => base.to_owned(),
        Some(url) if is_absolute(url) => without_credentials(url),
        Some(relative) => glued(base, relative),
    }
}

/// Whether the URL begins with that authority, and not with a longer one.
fn is_behind(url: &str, authority: &str) -> bool {
    let rest = url.strip_prefix(authority);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/', '?']))
}

fn glued(base: &str, relative: &str) -> String {
    format!("{}/{}", base.trim_end_matches('/'), relative.trim_start_matches('/'))
}

fn is_absolute(url: &str) -> bool {
    let starts = |scheme: &str| {
        url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    starts("rtsp://") || starts("rtsps://") || starts("rtspu://")
}

fn scheme_and_authority(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    Some((scheme, rest.get(..end)?))
}

fn without_credentials(url: &str) -> String {
    match scheme_and_authority(url) {
        Some((scheme, authority)) => {
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            let path = url.get(scheme.len() + "://".len() + authority.len()..).unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => url.to_owned(),
    }
}

/// What stands between `@` and the path.
struct HostPort<'a> {
    host: &'a str,
    zone: Option<String>,
    /// Empty when there is none.
    port: &'a str,
    /// The port with its colon, where the host is in brackets.
    behind: &'a str,
}

fn split_host(host_port: &str) -> Result<HostPort<'_>, SourceUrlError> {
    let (host, port, behind) = match host_port.strip_prefix('[') {
        Some(v6) => {
            let (host, behind) = v6.split_once(']').ok_or(SourceUrlError::NoHost)?;
            match behind.strip_prefix(':') {
                Some(port) => (host, port, behind),
                None if behind.is_empty() => (host, "", behind),
                None => return Err(SourceUrlError::Port),
            }
        }
        None => {
            let (host, port) = host_port.split_once(':').unwrap_or((host_port, ""));
            if host.is_empty() {
                return Err(SourceUrlError::NoHost);
            }
            return Ok(HostPort { host, zone: None, port, behind: "" });
        }
    };
    let (host, zone) = match host.split_once('%') {
        Some((host, zone)) => (host, Some(parse_zone(zone)?)),
        None => (host, None),
    };
    match host {
        "" => Err(SourceUrlError::NoHost),
        host if zone.is_some() && !is_link_local(host) => Err(SourceUrlError::NeedlessZone),
        host => Ok(HostPort { host, zone, port, behind }),
    }
}

/// What stands behind the per cent sign of an address. `25` and more is the encoded sign and a zone
/// that may be encoded; anything else is the zone as people type it, `25` alone the 25th interface.
fn parse_zone(text: &str) -> Result<String, SourceUrlError> {
    let zone = match text.strip_prefix("25").filter(|zone| !zone.is_empty()) {
        Some(encoded) => {
            let decoded = percent_decode_str(encoded).decode_utf8();
            decoded.map_err(|_| SourceUrlError::Zone)?.into_owned()
        }
        None => text.to_owned(),
    };
    let is_name = |c: char| !c.is_control() && !c.is_whitespace() && !"/%[]".contains(c);
    let may_be = !zone.is_empty() && zone.len() <= ZONE_BYTES_MAX && zone.chars().all(is_name);
    if may_be { Ok(zone) } else { Err(SourceUrlError::Zone) }
}

fn is_link_local(host: &str) -> bool {
    host.parse::<Ipv6Addr>().is_ok_and(|ip| !ip.is_multicast() && needs_interface(ip.into()))
}

fn parse_credentials(user_info: &str) -> Credentials {
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    let decoded = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
    Credentials { user: decoded(user), password: decoded(password) }
}

/// A name of an interface: `IFNAMSIZ` of Linux without the zero at its end.
const ZONE_BYTES_MAX: usize = 15;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn url_of_a_camera_is_taken_apart_and_loses_its_password() {
        let url = parse_source_url("RTSP://admin:p%40ss:w@cam.lan:8554/live?x=1").unwrap();
        assert_eq!((url.host.as_str(), url.port, url.is_secure), ("cam.lan", 8_554, false));
        assert_eq!(url.url, "rtsp://cam.lan:8554/live?x=1");
        let credentials = url.credentials.clone().unwrap();
        assert_eq!((credentials.user.as_str(), credentials.password.as_str()), ("admin", "p@ss:w"));
        assert!(!format!("{url:?}").contains("p@ss"), "{url:?}");
    }

    #[test]
    fn ports_and_addresses_have_their_defaults_and_forms() {
        let read = |text| parse_source_url(text).map(|url| (url.host, url.port));
        assert_eq!(read("rtsp://h"), Ok(("h".to_owned(), 554)));
        assert_eq!(read("rtsps://h/a"), Ok(("h".to_owned(), 322)));
        assert_eq!(read("rtsp://[::1]:99/a"), Ok(("::1".to_owned(), 99)));
        assert_eq!(read("rtsp://[::1]/a"), Ok(("::1".to_owned(), 554)));
        assert_eq!(read("http://h/"), Err(SourceUrlError::Scheme));
        assert_eq!(read("h:554/a"), Err(SourceUrlError::Scheme));
        assert_eq!(read("rtsp:///a"), Err(SourceUrlError::NoHost));
        assert_eq!(read("rtsp://u@/a"), Err(SourceUrlError::NoHost));
        assert_eq!(read("rtsp://h:0/a"), Err(SourceUrlError::Port));
        assert_eq!(read("rtsp://h:+5/a"), Err(SourceUrlError::Port));
        assert_eq!(read("rtsp://[::1]x/a"), Err(SourceUrlError::Port));
        assert_eq!(read("rtsp://h/a b"), Err(SourceUrlError::Character));
        assert_eq!(read("rtsp://h/a\r\nX: y"), Err(SourceUrlError::Character));
    }

    #[test]
    fn zone_is_read_in_both_spellings_and_shown_but_not_sent() {
        for (text, zone, sent, shown) in [
            ("[fe80::7%25eth0]", Some("eth0"), "[fe80::7]", "[fe80::7%25eth0]"),
            ("[fe80::7%eth0]", Some("eth0"), "[fe80::7]", "[fe80::7%25eth0]"),
            ("[fe80::7%253]", Some("3"), "[fe80::7]", "[fe80::7%253]"),
            ("[fe80::7%3]", Some("3"), "[fe80::7]", "[fe80::7%253]"),
            ("[fe80::7%25]", Some("25"), "[fe80::7]", "[fe80::7%2525]"),
            ("[fe80::7%2525]", Some("25"), "[fe80::7]", "[fe80::7%2525]"),
            (
                "[FEBF::7%25br-lan.7]:99",
                Some("br-lan.7"),
                "[FEBF::7]:99",
                "[FEBF::7%25br-lan.7]:99",
            ),
            ("[fe80::7%25a%3Ab]", Some("a:b"), "[fe80::7]", "[fe80::7%25a%3Ab]"),
            ("[fe80::7%a:b]:9", Some("a:b"), "[fe80::7]:9", "[fe80::7%25a%3Ab]:9"),
            ("[fe80::7]", None, "[fe80::7]", "[fe80::7]"),
            ("[2001:db8::7]:99", None, "[2001:db8::7]:99", "[2001:db8::7]:99"),
            ("cam%25eth0", None, "cam%25eth0", "cam%25eth0"),
        ] {
            let url = parse_source_url(&format!("rtsp://me:s3@{text}/x?y=1]")).unwrap();
            assert_eq!(url.zone.as_deref(), zone, "{text}");
            assert_eq!(url.url, format!("rtsp://{sent}/x?y=1]"), "{text}");
            assert_eq!(url.to_string(), format!("rtsp://{shown}/x?y=1]"), "{text}");
            let again = parse_source_url(&url.to_string()).unwrap();
            assert_eq!((again.zone, again.url), (url.zone, url.url), "{text}");
        }
        let read = |text: &str| parse_source_url(text).map(|url| url.lacks_zone());
        assert_eq!(read("rtsp://[fe80::7]/x"), Ok(true));
        assert_eq!(read("rtsp://[fe80::7%1]/x"), Ok(false));
        assert_eq!(read("rtsp://[fec0::7]/x"), Ok(false));
        for (host, error) in [
            ("[fe80::7%]", SourceUrlError::Zone),
            ("[fe80::7%25%20]", SourceUrlError::Zone),
            ("[fe80::7%25a%2Fb]", SourceUrlError::Zone),
            ("[fe80::7%25%FF]", SourceUrlError::Zone),
            ("[fe80::7%sixteen-bytes-is]", SourceUrlError::Zone),
            ("[2001:db8::7%eth0]", SourceUrlError::NeedlessZone),
            ("[::1%25lo]", SourceUrlError::NeedlessZone),
            ("[cam%25eth0]", SourceUrlError::NeedlessZone),
            ("[%25eth0]", SourceUrlError::NoHost),
        ] {
            assert_eq!(read(&format!("rtsp://{host}/x")), Err(error), "{host}");
        }
    }

    #[test]
    fn base_is_what_the_server_says_where_it_says_something() {
        let request = "rtsp://10.0.0.7:554/live";
        for (base, location, expected) in [
            (None, None, request),
            (Some(""), None, request),
            (Some("rtsp://10.0.0.7/live/"), Some("x"), "rtsp://10.0.0.7/live/"),
            (None, Some("rtsp://u:p@10.0.0.7/l/"), "rtsp://10.0.0.7/l/"),
            (Some("10.0.0.7:554/live/"), None, "rtsp://10.0.0.7:554/live/"),
            (Some("/live/"), None, "rtsp://10.0.0.7:554/live/"),
            (Some("sub/"), None, "rtsp://10.0.0.7:554/live/sub/"),
            // Its beginning is like our host, and it is another one, or names a user.
            (Some("10.0.0.7:5540/l/"), None, "rtsp://10.0.0.7:554/live/10.0.0.7:5540/l/"),
            (Some("10.0.0.7:554@h/l/"), None, "rtsp://10.0.0.7:554/live/10.0.0.7:554@h/l/"),
        ] {
            assert_eq!(content_base(request, base, location), expected, "{base:?} {location:?}");
        }
    }

    #[test]
    fn control_is_absolute_relative_or_the_base_itself() {
        for (base, control, expected) in [
            ("rtsp://h/a/", Some("trackID=1"), "rtsp://h/a/trackID=1"),
            ("rtsp://h/a", Some("trackID=1"), "rtsp://h/a/trackID=1"),
            ("rtsp://h/a", Some("/trackID=1"), "rtsp://h/a/trackID=1"),
            ("rtsp://h/a?x=1", Some("trackID=1"), "rtsp://h/a?x=1/trackID=1"),
            ("rtsp://h/a/", Some("rtsp://h/b/1"), "rtsp://h/b/1"),
            ("rtsp://h/a/", Some("RTSP://u:p@h"), "RTSP://h"),
            ("rtsp://h/a/", Some("*"), "rtsp://h/a/"),
            ("rtsp://h/a/", Some(" "), "rtsp://h/a/"),
            ("rtsp://h/a/", None, "rtsp://h/a/"),
        ] {
            assert_eq!(control_url(base, control), expected, "{base} {control:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,60}", base in "\\PC{0,30}") {
            let _ = (parse_source_url(&text), control_url(&base, Some(&text)));
            let _ = content_base(&base, Some(&text), None);
        }

        #[test]
        fn no_password_is_in_a_url(
            user in "[a-z]{1,8}", password in "[A-Z]{4,8}", path in "(/[a-z]{0,5}){0,3}",
        ) {
            let text = format!("rtsp://{user}:{password}@host{path}");
            let url = parse_source_url(&text).unwrap();
            prop_assert!(!url.url.contains(&password));
            prop_assert!(!control_url("rtsp://h/", Some(&text)).contains(&password));
            prop_assert_eq!(url.url, format!("rtsp://host{path}"));
        }

        #[test]
        fn what_is_shown_of_a_source_reads_back(
            host in "[a-z]{1,3}([.]x)?(:[1-9][0-9]{0,3})?", path in "/[a-c@:/?#\"\\[\\]1.]{0,12}",
        ) {
            let shown = parse_source_url(&format!("rtsp://{host}{path}")).unwrap().to_string();
            let again = parse_source_url(&shown).map(|url| url.to_string());
            prop_assert_eq!(again, Ok(shown));
        }
    }
}
