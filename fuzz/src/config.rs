//! The configuration file, and its values.

use headend::base::rate::Rate;
use headend::base::secrets::shown_url;
use headend::base::text::printable;
use headend::config::access::{HookUrl, JwksSource, User, is_path_of, is_user_name};
use headend::config::access_list::AccessList;
use headend::config::daily::DailyTime;
use headend::config::fallback::FallbackSource;
use headend::config::keys::KEYS;
use headend::config::lineup::parse_channel;
use headend::config::playlist::parse_title;
use headend::config::source::SourceAddress;
use headend::config::value::parse_duration;
use headend::config::{CpuList, ShardPriority, load};

use crate::input::text;

/// A file: refused in one sentence, or taken; then what is shown of every key is taken as well and
/// means the same.
pub fn file(data: &[u8]) {
    let file = text(data);
    let loaded = match load(Some(("headend.toml", &file)), [], &[]) {
        Ok(loaded) => loaded,
        Err(error) => {
            let sentence = error.to_string();
            assert!(!sentence.is_empty() && sentence.len() <= 4 * file.len() + 2_000, "{sentence}");
            return;
        }
    };
    let _ = (loaded.config.warnings(), loaded.config.changed_keys(&loaded.config));
    let shown = |config: &headend::config::Config| {
        // URLs with a password are shown without it, so they do not read back.
        let keys =
            KEYS.iter().filter(|key| key.same_as.is_none() && !key.name.starts_with("auth."));
        let lines =
            keys.filter_map(|key| Some(format!("{} = {}\n", key.name, (key.show)(config)?)));
        lines.collect::<String>()
    };
    let lines = shown(&loaded.config);
    let again =
        load(Some(("shown.toml", &lines)), [], &[]).unwrap_or_else(|e| panic!("{e}\n{lines}"));
    assert_eq!(shown(&again.config), lines);
    for section in &loaded.paths {
        let _ = loaded.config.paths.find(&section.name);
    }
}

/// Values as people write them: what is taken reads back as it is shown.
pub fn values(data: &[u8]) {
    let text = text(data);
    let _ = (parse_duration(&text), parse_channel(&text), printable(&text));
    assert!(printable(&text).chars().all(|c| !c.is_control()));
    if let Ok(time) = DailyTime::parse(&text) {
        assert_eq!(DailyTime::parse(&time.to_string()), Ok(time));
    }
    if let Ok(cpus) = CpuList::parse(&text) {
        assert_eq!(CpuList::parse(&cpus.to_string()), Ok(cpus));
    }
    if let Ok(priority) = ShardPriority::parse(&text) {
        assert_eq!(ShardPriority::parse(&priority.to_string()).ok(), Some(priority));
    }
    if let Ok(rate) = Rate::parse(&text) {
        assert_eq!(Rate::parse(&rate.to_string()).ok(), Some(rate), "{rate}");
    }
    if let Ok(source) = SourceAddress::parse(&text) {
        check_source(&text, &source);
    }
    if let Ok(source) = FallbackSource::parse(&text) {
        let shown = source.to_string();
        assert!(FallbackSource::parse(&shown).is_ok(), "{shown}");
    }
    if let Ok(title) = parse_title(&text) {
        // Of a title in a folder `vod` a second one is part of the name.
        let again = parse_title(&format!("vod/{title}"));
        assert!(&*title == "demo" || again.as_deref() == Ok(&*title), "{title}");
    }
    let words: Vec<&str> = text.split(' ').collect();
    if let Ok(list) = AccessList::parse(&words) {
        let texts = list.texts();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        assert_eq!(AccessList::parse(&texts).ok().map(|list| list.texts()), Some(list.texts()));
    }
    if let Ok(url) = HookUrl::parse(&text) {
        assert_eq!(url.expose(), text);
        hides_password(&text, &url.to_string());
    }
    if let Ok(source) = JwksSource::parse(&text) {
        hides_password(&text, &source.to_string());
    }
    hides_password(&text, &shown_url(&text));
    let _ = (User::check_hash(&text), User::check_digest(&text, 16), is_path_of(&text, "live/a"));
    if is_user_name(&text) {
        assert!(!text.contains([':', '\0', '\n']) && !text.is_empty());
    }
}

fn check_source(text: &str, source: &SourceAddress) {
    let shown = source.to_string();
    let again = SourceAddress::parse(&shown).unwrap_or_else(|error| panic!("{shown}: {error}"));
    assert_eq!(again.to_string(), shown);
    assert_eq!(again.is_fetched(), source.is_fetched());
    hides_password(text, &shown);
}

/// `scheme://user:password@host`, where the password stands nowhere else.
fn hides_password(text: &str, shown: &str) {
    let Some((scheme, rest)) = text.split_once("://") else { return };
    if !scheme.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return;
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some((user_info, host)) = rest[..end].rsplit_once('@') else { return };
    let Some((user, password)) = user_info.split_once(':') else { return };
    let elsewhere = format!("{user} {host} {}", &rest[end..]);
    if password.len() >= 8 && password.is_ascii() && !elsewhere.contains(password) {
        assert!(!shown.contains(password), "{text} is shown as {shown}");
    }
}
