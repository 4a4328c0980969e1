//! URLs as they may be shown: without passwords and tokens.
//!
//! ```text
//! rtsp://me:secret@cam/live?channel=1&token=abc  ->  rtsp://cam/live?channel=1&token=...
//! ```
//! Logs, answers of the API and errors show a URL by [`shown_url`] and in no other way (RFC 3986
//! s7.5). Cameras take passwords in paths too (`/user=me_password=secret_channel=1`), so names
//! before `=` are looked at wherever they stand. In a path, a value that is hidden ends at the
//! next `&`, `;`, `/`, `?` or `#`. Behind the first `?` a value may have all of these but `&`
//! (base64 has `/`), so it ends there, or at the name of a track that ends the URL
//! (`/trackID=1`). Too much is hidden rather than too little.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use percent_encoding::percent_decode_str;

/// The URL without user and password, and with `...` for values whose name says that they are
/// secret. Takes any text; what has no secrets stays as it is.
#[must_use]
pub fn shown_url(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
        _ => (None, url),
    };
    let Some(scheme) = scheme else { return without_values(rest) };
    format!("{scheme}://{}", without_user(rest))
}

/// The text with `...` for secret values.
fn without_values(text: &str) -> String {
    let mut shown = String::new();
    let (mut left, mut is_query) = (text, false);
    while let Some((name, value)) = left.split_once('=') {
        is_query |= name.contains('?');
        shown.push_str(name);
        shown.push('=');
        let own_name = name.rsplit(STARTS_NAME).next().unwrap_or(name);
        left = value;
        if is_secret(own_name) {
            let (hidden, behind) = value.split_at(value_len(value, is_query));
            shown.push_str(if hidden.is_empty() { "" } else { "..." });
            left = behind;
        }
    }
    shown.push_str(left);
    shown
}

fn is_scheme(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

/// Length of the hidden value that `text` begins with.
fn value_len(text: &str, is_query: bool) -> usize {
    if !is_query {
        return text.find(ENDS_VALUE).unwrap_or(text.len());
    }
    let value = text.split('&').next().unwrap_or(text);
    value.rfind('/').filter(|slash| is_track(&value[slash + 1..])).unwrap_or(value.len())
}

/// `trackID=1`, which SETUP puts behind the query of a URL.
fn is_track(text: &str) -> bool {
    text.split_once('=').is_some_and(|(name, number)| {
        let is_name = TRACKS.iter().any(|track| name.eq_ignore_ascii_case(track));
        is_name && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// What stands behind `user:password@`. A password may have a slash or a question mark that nobody
/// has encoded. Then what looks like a port is no number; or it is one, behind a name that is a
/// user's as well as a host's (`me:1/secret@cam`), which is hidden.
/// Secret values are hidden first: `@` may be in them as well (`cam:554/x?token=a@b`).
/// What is left is a URL's rest, or `...`.
fn without_user(rest: &str) -> String {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, _) = rest.split_at(end);
    if let Some(at) = authority.rfind('@') {
        return without_values(&rest[at + 1..]);
    }
    let shown = without_values(rest);
    let (name, port) = authority.split_once(':').unwrap_or((authority, ""));
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
    let is_host = authority.starts_with('[')
        || !authority.contains(':')
        || is_port && (name.contains('.') || name == "localhost");
    if is_host || !rest.contains('@') {
        return shown;
    }
    match shown.rsplit_once('@') {
        Some((_, behind)) if begins_with_host(behind) => behind.to_owned(),
        Some(_) => "...".to_owned(),
        None if is_port => shown,
        None => "...".to_owned(),
    }
}

/// `cam`, `cam:554` or `[fe80::7]:554`, and then a path, a query or nothing.
fn begins_with_host(rest: &str) -> bool {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_name =
        !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || "-._".contains(c));
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_address = address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    (is_name || is_address)
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn is_secret(name: &str) -> bool {
    let name = percent_decode_str(name).decode_utf8_lossy();
    let name: Cow<'_, str> = name.to_ascii_lowercase().into();
    SECRETS.iter().any(|secret| name.ends_with(secret))
}

/// What the name of a parameter begins behind.
const STARTS_NAME: [char; 6] = ['&', ';', '/', '?', '#', '='];
/// What a value ends at in a path.
const ENDS_VALUE: [char; 5] = ['&', ';', '/', '?', '#'];

/// What tracks are called at the end of a URL, by players and servers that know no better.
const TRACKS: [&str; 2] = ["trackid", "streamid"];

/// Ends of names of secret values, in lower case: `access_token`, `X-Amz-Signature`, `userpwd`.
const SECRETS: &[&str] = &[
    "password",
    "passwd",
    "passwort",
    "passphrase",
    "pass",
    "pwd",
    "psw",
    "pw",
    "token",
    "secret",
    "key",
    "auth",
    "authorization",
    "signature",
    "sig",
    "sign",
    "credential",
    "credentials",
    "jwt",
    "hash",
    "session",
    "code",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn users_and_secret_values_are_hidden_and_the_rest_is_shown() {
        for (url, shown) in [
            ("rtsp://me:s3cret@cam:554/live", "rtsp://cam:554/live"),
            ("rtsp://me:s3/cr@et@cam/live", "rtsp://cam/live"),
            ("rtsp://cam/a@b.mp4?x=1", "rtsp://cam/a@b.mp4?x=1"),
            ("rtsp://[::1]:554/a@b", "rtsp://[::1]:554/a@b"),
            ("rtsp://192.0.2.1:554/a@b", "rtsp://192.0.2.1:554/a@b"),
            ("rtsp://cam.example:554/a@b", "rtsp://cam.example:554/a@b"),
            ("rtsp://localhost:554/a@b", "rtsp://localhost:554/a@b"),
            ("rtsp://me:1/s3cret@cam/live", "rtsp://cam/live"),
            ("rtsp://cam:554/x?token=s3@cret", "rtsp://cam:554/x?token=..."),
            ("rtsp://me:p/w@cam/x?token=s3@cret", "rtsp://cam/x?token=..."),
            ("rtsp://me:p/w@cam/key=s3@cret/x", "rtsp://cam/key=.../x"),
            ("rtsp://me:s3/key=cret@cam", "rtsp://..."),
            ("rtsp://cam:554/s3cret@a:b/c", "rtsp://..."),
            ("rtsp://cam:554/s3cret@", "rtsp://..."),
            ("rtsp://cam:554/s3cret@[::1]:554/c", "rtsp://[::1]:554/c"),
            ("rtsp://cam:554/s3cret@[a]/c", "rtsp://..."),
            (
                "rtsp://cam/?user=me&password=s3cret&channel=1",
                "rtsp://cam/?user=me&password=...&channel=1",
            ),
            ("rtsp://cam/?PASSWORD=s3cret", "rtsp://cam/?PASSWORD=..."),
            ("rtsp://cam/?pass%77ord=s3cret/trackID=1", "rtsp://cam/?pass%77ord=.../trackID=1"),
            ("rtsp://cam/live?access_token=a=b;c=d", "rtsp://cam/live?access_token=..."),
            ("rtsp://cam/x?token=Ab3/xYz9==", "rtsp://cam/x?token=..."),
            ("rtsp://cam/x?token=a/b==/streamid=0", "rtsp://cam/x?token=.../streamid=0"),
            ("rtsp://cam/x?token=a/trackID=b/c", "rtsp://cam/x?token=..."),
            ("rtsp://cam/x?password=a#b&c=d", "rtsp://cam/x?password=...&c=d"),
            ("rtsp://cam/user=me_password=s3cret_channel=1/x", "rtsp://cam/user=me_password=.../x"),
            ("rtsp://cam/user=me&password=&channel=1", "rtsp://cam/user=me&password=&channel=1"),
            ("/vod/a.mp4?token=s3cret", "/vod/a.mp4?token=..."),
            ("rtsp://cam/vod/a.mp4", "rtsp://cam/vod/a.mp4"),
            ("*", "*"),
        ] {
            assert_eq!(shown_url(url), shown, "{url}");
        }
    }

    fn secret_name() -> impl Strategy<Value = String> {
        let names = (prop::sample::select(SECRETS), any::<bool>());
        names.prop_map(|(name, upper)| if upper { name.to_ascii_uppercase() } else { name.into() })
    }

    proptest! {
        #[test]
        fn no_secret_in_a_path_is_shown(
            front in "(rtsp://h[.]x(:554)?)?(/[a-f]{1,4}){0,2}/([a-f]{1,4}=[0-9]{0,3}[&;]){0,2}",
            name in secret_name(), behind in "([&;/?][a-f]{1,4}=[0-9]{0,3}){0,2}",
        ) {
            let shown = shown_url(&format!("{front}{name}=S3CR%3Et@:+{behind}"));
            prop_assert_eq!(shown, format!("{front}{name}=...{behind}"));
        }

        #[test]
        fn no_secret_in_a_query_is_shown_whatever_it_is_made_of(
            front in "(rtsp://h([.]x)?(:554)?)?(/[a-f]{1,4}){0,2}\\?([a-f]{1,4}=[0-9/?]{0,3}[&;]){0,2}",
            name in secret_name(), secret in "[G-Z0-9/?;#@=:+%.~-]{1,12}",
            behind in "(&[a-f]{1,4}=[0-9]{0,3}){0,2}", track in "(/(trackID|streamid)=[0-9]{1,2})?",
        ) {
            let behind = if behind.is_empty() { track } else { behind };
            let shown = shown_url(&format!("{front}{name}={secret}{behind}"));
            prop_assert_eq!(shown, format!("{front}{name}=...{behind}"));
        }

        #[test]
        fn no_password_of_a_user_is_shown(
            secret in "[G-Z0-9/?;#:+%.&~-]{1,12}", path in "(/[a-f]{1,4}){0,2}",
        ) {
            let shown = shown_url(&format!("rtsp://me:{secret}@cam{path}"));
            prop_assert_eq!(shown, format!("rtsp://cam{path}"));
        }

        #[test]
        fn any_text_is_shown_without_panic(text in "\\PC{0,60}") {
            let _ = shown_url(&text);
        }
    }
}
