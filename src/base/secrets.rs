//! URLs as they may be shown: without passwords and tokens.
//!
//! ```text
//! rtsp://me:secret@cam/live?channel=1&token=abc  ->  rtsp://cam/live?channel=1&token=...
//! ```
//! Logs, answers of the API and errors show a URL by [`shown_url`] and in no other way (RFC 3986
//! s7.5). Cameras take passwords in paths too (`/user=me_password=secret_channel=1`), so names
//! before `=` are looked at wherever they stand. A value that is hidden ends at the next `&`, `;`,
//! `/`, `?` or `#`. Too much is hidden rather than too little.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The URL without user and password, and with `...` for values whose name says that they are
/// secret. Takes any text; what has no secrets stays as it is.
#[must_use]
pub fn shown_url(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
        _ => (None, url),
    };
    let rest = if scheme.is_some() { without_user(rest) } else { rest };
    let mut shown = scheme.map_or_else(String::new, |scheme| format!("{scheme}://"));
    let mut left = rest;
    while let Some((name, value)) = left.split_once('=') {
        shown.push_str(name);
        shown.push('=');
        let own_name = name.rsplit(STARTS_NAME).next().unwrap_or(name);
        left = value;
        if is_secret(own_name) {
            let end = value.find(ENDS_VALUE).unwrap_or(value.len());
            let (hidden, behind) = value.split_at(end);
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

/// What stands behind `user:password@`. A password may have a slash or a question mark that nobody
/// has encoded: then what looks like a port is no number.
fn without_user(rest: &str) -> &str {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, _) = rest.split_at(end);
    if let Some(at) = authority.rfind('@') {
        return &rest[at + 1..];
    }
    let is_host = authority.starts_with('[')
        || authority
            .split_once(':')
            .is_none_or(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    match rest.rfind('@') {
        Some(at) if !is_host => &rest[at + 1..],
        _ => rest,
    }
}

fn is_secret(name: &str) -> bool {
    let name = percent_decode_str(name).decode_utf8_lossy();
    let name: Cow<'_, str> = name.to_ascii_lowercase().into();
    SECRETS.iter().any(|secret| name.ends_with(secret))
}

/// What the name of a parameter begins behind.
const STARTS_NAME: [char; 6] = ['&', ';', '/', '?', '#', '='];
/// What a value ends at.
const ENDS_VALUE: [char; 5] = ['&', ';', '/', '?', '#'];

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
            (
                "rtsp://cam/?user=me&password=s3cret&channel=1",
                "rtsp://cam/?user=me&password=...&channel=1",
            ),
            ("rtsp://cam/?PASSWORD=s3cret", "rtsp://cam/?PASSWORD=..."),
            ("rtsp://cam/?pass%77ord=s3cret/trackID=1", "rtsp://cam/?pass%77ord=.../trackID=1"),
            ("rtsp://cam/live?access_token=a=b;c=d", "rtsp://cam/live?access_token=...;c=d"),
            ("rtsp://cam/user=me_password=s3cret_channel=1/x", "rtsp://cam/user=me_password=.../x"),
            ("rtsp://cam/user=me&password=&channel=1", "rtsp://cam/user=me&password=&channel=1"),
            ("/vod/a.mp4?token=s3cret", "/vod/a.mp4?token=..."),
            ("rtsp://cam/vod/a.mp4", "rtsp://cam/vod/a.mp4"),
            ("*", "*"),
        ] {
            assert_eq!(shown_url(url), shown, "{url}");
        }
    }

    proptest! {
        #[test]
        fn no_secret_is_shown_wherever_it_stands(
            front in "(rtsp://h(:554)?)?(/[a-f]{1,4}){0,2}[?/]([a-f]{1,4}=[0-9]{0,3}[&;]){0,2}",
            name in prop::sample::select(SECRETS), upper: bool,
            behind in "([&;/][a-f]{1,4}=[0-9]{0,3}){0,2}",
        ) {
            let name = if upper { name.to_ascii_uppercase() } else { name.to_owned() };
            let shown = shown_url(&format!("{front}{name}=S3CR%3Et@:+{behind}"));
            prop_assert_eq!(shown, format!("{front}{name}=...{behind}"));
            let shown = shown_url(&format!("rtsp://u:S3CRET@h/x?{name}=S3CRET{behind}"));
            prop_assert!(!shown.contains("S3CRET"), "{}", shown);
        }

        #[test]
        fn any_text_is_shown_without_panic(text in "\\PC{0,60}") {
            let _ = shown_url(&text);
        }
    }
}
