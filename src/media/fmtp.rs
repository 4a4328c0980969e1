//! Format parameters (`a=fmtp`) without those that say nothing.
//!
//! ```text
//! packetization-mode=1; sprop-parameter-sets=,    -->  packetization-mode=1
//! ```
//! Muxers and cameras that do not know their parameter sets yet write the name with nothing behind
//! it. A player that takes the empty text for sets fails where it would wait for those in band.
//! RFC 8866 s6.15, RFC 6184 s8.1, RFC 7798 s7.1.

use std::borrow::Cow;

/// The parameters that have a value or need none. A text without empty ones stays as it is, to
/// the byte.
#[must_use]
pub fn without_empty(fmtp: &str) -> Cow<'_, str> {
    let parameters = || fmtp.split(';').map(str::trim);
    if parameters().all(|parameter| cleaned(parameter).is_some_and(|c| *c == *parameter)) {
        return Cow::Borrowed(fmtp);
    }
    let kept: Vec<Cow<'_, str>> =
        parameters().filter(|parameter| !parameter.is_empty()).filter_map(cleaned).collect();
    Cow::Owned(kept.join(";"))
}

/// One parameter; `None` when there is nothing behind its name.
fn cleaned(parameter: &str) -> Option<Cow<'_, str>> {
    let Some((name, value)) = parameter.split_once('=') else {
        return Some(Cow::Borrowed(parameter));
    };
    let is_list = LISTS.iter().any(|list| name.trim().eq_ignore_ascii_case(list));
    let has_empty = is_list && value.split(',').any(|item| item.trim().is_empty());
    if !has_empty {
        return (!value.trim().is_empty()).then_some(Cow::Borrowed(parameter));
    }
    let items: Vec<&str> = value.split(',').map(str::trim).filter(|i| !i.is_empty()).collect();
    (!items.is_empty()).then(|| Cow::Owned(format!("{}={}", name.trim(), items.join(","))))
}

/// Parameters whose values are lists of parameter sets, separated by commas.
const LISTS: [&str; 4] = ["sprop-parameter-sets", "sprop-vps", "sprop-sps", "sprop-pps"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn empty_parameters_go_and_the_others_stay_as_they_are() {
        for (fmtp, kept) in [
            ("packetization-mode=1; sprop-parameter-sets=", "packetization-mode=1"),
            ("sprop-parameter-sets=, ; profile-level-id=42001F", "profile-level-id=42001F"),
            ("sprop-parameter-sets=Z0LAHtk=,", "sprop-parameter-sets=Z0LAHtk="),
            ("sprop-vps=;sprop-sps= ;SPROP-PPS=,,", ""),
            ("mode=AAC-hbr;config=;sizeLength=13;", "mode=AAC-hbr;sizeLength=13"),
            ("config=", ""),
            ("", ""),
            ("0-15", "0-15"),
            ("octet-align=1; ", "octet-align=1; "),
            ("a=b=;  sprop-sps=QgE=,QgI=", "a=b=;  sprop-sps=QgE=,QgI="),
        ] {
            assert_eq!(without_empty(fmtp), kept, "{fmtp:?}");
        }
    }

    proptest! {
        #[test]
        fn no_parameter_is_empty_and_none_is_lost(
            parameters in prop::collection::vec(
                ("(mode|config|sprop-sps|x)", "[ ,A-Za-z0-9+/]{0,6}"), 0..6),
        ) {
            let text: Vec<String> =
                parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let clean = without_empty(&text.join("; ")).into_owned();
            let values: Vec<&str> =
                clean.split(';').filter_map(|p| p.split_once('=')).map(|(_, v)| v).collect();
            prop_assert!(values.iter().all(|value| !value.trim().is_empty()), "{}", clean);
            let letters = |text: &str| {
                text.chars().filter(char::is_ascii_alphanumeric).count()
            };
            let meant = parameters.iter().filter(|(name, value)| match name.as_str() {
                "sprop-sps" => letters(value) + value.matches(['+', '/']).count() > 0,
                _ => !value.trim().is_empty(),
            });
            prop_assert_eq!(values.len(), meant.count(), "{}", clean);
        }
    }
}
