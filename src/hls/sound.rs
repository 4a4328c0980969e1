//! A sound to choose: its language as a tag and as a name for people.
//!
//! ```text
//! deu, ger, de -> de "Deutsch"     en-GB -> en-GB "English (GB)"     none -> "Sound 2"
//! ```
//! A tag has the shortest code of its language (RFC 5646 s2.2.1, s4.5). A name is in the language
//! itself (RFC 8216 s4.3.4.1).
//! Invariant: names of one title differ (RFC 8216 s4.3.4.1.1).

use isolang::Language;

use super::resource::Rendition;

/// A sound to choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sound {
    /// Which rendition it is in.
    pub rendition: Rendition,
    /// Name for people, unique in the playlist.
    pub name: String,
    /// Language tag (BCP 47).
    pub language: Option<String>,
    /// How many it has.
    pub channels: Option<u16>,
    /// Text of `CODECS` for it alone.
    pub codecs: String,
    /// A player may choose it by its language: it is the first one of that.
    pub is_automatic: bool,
}

impl Sound {
    /// Behind `before`, in a rendition. `language` is a tag (BCP 47) or a code of ISO 639-2.
    #[must_use]
    pub fn behind(
        before: &[Self],
        rendition: Rendition,
        language: Option<&str>,
        (channels, codecs): (Option<u16>, &str),
    ) -> Self {
        let language = language.and_then(tag);
        let is_automatic = before.iter().all(|other| other.language != language);
        Self {
            rendition,
            name: free_name(before, language.as_deref()),
            language,
            channels,
            codecs: codecs.to_owned(),
            is_automatic,
        }
    }
}

fn free_name(before: &[Sound], language: Option<&str>) -> String {
    let is_free = |name: &String| before.iter().all(|other| other.name != *name);
    let (base, first) = match language {
        Some(tag) => (name(tag), 1),
        None => ("Sound".to_owned(), before.len() + 1),
    };
    let numbered = |number| match language {
        Some(_) if number == 1 => base.clone(),
        _ => format!("{base} {number}"),
    };
    // One more number than there are names is enough.
    let numbers = first..=first + before.len();
    numbers.map(numbered).find(is_free).unwrap_or_default()
}

/// A tag of a language; `None`: the text is no tag, or says that the language is not known.
fn tag(text: &str) -> Option<String> {
    let (primary, rest) = split(text);
    let primary = primary.to_ascii_lowercase();
    let is_letters = primary.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_part = |part: &str| {
        (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let is_tag = (2..=8).contains(&primary.len())
        && is_letters
        && rest.is_none_or(|rest| rest.split('-').all(is_part));
    if !is_tag || UNKNOWN.contains(&primary.as_str()) {
        return None;
    }
    let terminology = BIBLIOGRAPHIC.iter().find(|(code, _)| *code == primary);
    let code = terminology.map_or(primary.as_str(), |(_, code)| *code);
    let short = Language::from_639_3(code).and_then(|language| language.to_639_1());
    let code = short.unwrap_or(code);
    Some(rest.map_or_else(|| code.to_owned(), |rest| format!("{code}-{rest}")))
}

/// Name for people of a tag's language, in that language where it is known.
fn name(tag: &str) -> String {
    let (primary, rest) = split(tag);
    let language = match primary.len() {
        2 => Language::from_639_1(primary),
        _ => Language::from_639_3(primary),
    };
    let Some(language) = language else { return tag.to_owned() };
    let name = language.to_autonym().unwrap_or_else(|| language.to_name());
    let mut letters = name.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    let name: String = first.chain(letters).collect();
    rest.map_or_else(|| name.clone(), |rest| format!("{name} ({rest})"))
}

fn split(tag: &str) -> (&str, Option<&str>) {
    tag.split_once('-').map_or((tag, None), |(primary, rest)| (primary, Some(rest)))
}

/// ISO 639-2: undetermined, uncoded.
const UNKNOWN: [&str; 2] = ["und", "mis"];

/// Codes of ISO 639-2/B, which files that were Matroska have, and their codes of 639-2/T.
const BIBLIOGRAPHIC: [(&str, &str); 20] = [
    ("alb", "sqi"),
    ("arm", "hye"),
    ("baq", "eus"),
    ("bur", "mya"),
    ("chi", "zho"),
    ("cze", "ces"),
    ("dut", "nld"),
    ("fre", "fra"),
    ("geo", "kat"),
    ("ger", "deu"),
    ("gre", "ell"),
    ("ice", "isl"),
    ("mac", "mkd"),
    ("mao", "mri"),
    ("may", "msa"),
    ("per", "fas"),
    ("rum", "ron"),
    ("slo", "slk"),
    ("tib", "bod"),
    ("wel", "cym"),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sounds(languages: &[Option<&str>]) -> Vec<Sound> {
        let mut sounds = Vec::new();
        for (place, language) in (1..).zip(languages) {
            let next = Sound::behind(&sounds, Rendition(place), *language, (Some(2), "opus"));
            sounds.push(next);
        }
        sounds
    }

    #[test]
    fn tag_has_the_shortest_code_of_its_language() {
        for (text, wanted) in [
            ("deu", Some("de")),
            ("ger", Some("de")),
            ("de", Some("de")),
            ("DEU", Some("de")),
            ("en-GB", Some("en-GB")),
            ("eng-GB", Some("en-GB")),
            ("zh-Hant", Some("zh-Hant")),
            ("gsw", Some("gsw")),
            ("qaa", Some("qaa")),
            ("mul", Some("mul")),
            ("und", None),
            ("", None),
            ("x", None),
            ("en-", None),
            ("e1", None),
            ("en\",X=\"", None),
        ] {
            assert_eq!(tag(text).as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn sounds_are_named_in_their_languages_and_each_name_is_there_once() {
        let all = [Some("eng"), Some("ger"), Some("eng"), Some("en-GB"), None, None, Some("qaa")];
        let sounds = sounds(&all);
        let names: Vec<_> = sounds.iter().map(|sound| sound.name.as_str()).collect();
        let wanted =
            ["English", "Deutsch", "English 2", "English (GB)", "Sound 5", "Sound 6", "qaa"];
        assert_eq!(names, wanted);
        let automatic: Vec<_> = sounds.iter().map(|sound| sound.is_automatic).collect();
        assert_eq!(automatic, [true, true, false, true, true, false, true]);
    }

    proptest! {
        #[test]
        fn names_differ_and_tags_are_tags_whatever_a_file_says(
            languages in proptest::collection::vec(proptest::option::of("(en|deu|[a-z]{2,3}|\\PC{0,9})(-\\PC{0,3})?"), 0..30),
        ) {
            let languages: Vec<_> = languages.iter().map(Option::as_deref).collect();
            let sounds = sounds(&languages);
            for (place, sound) in sounds.iter().enumerate() {
                prop_assert!(!sound.name.is_empty());
                prop_assert!(sounds[..place].iter().all(|other| other.name != sound.name));
                let tag = sound.language.as_deref().unwrap_or("en");
                prop_assert!(tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
            }
        }
    }
}
