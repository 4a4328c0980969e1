//! What HTTP brings to a base: headers, paths and bodies of uploads, and files of tokens.

use std::collections::BTreeSet;

use headend::dist::command::check_path;
use headend::http::ctp::foreign;
use headend::http::jobs::auth::{quotas_of, read_providers};
use headend::http::peer::range;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::input::{Input, text};

/// An upload: its headers within their bounds, a path that stays in its job, and a body of
/// properties of any depth.
pub fn upload(data: &[u8]) {
    let mut input = Input::new(data);
    let what = input.u8();
    match what % 3 {
        0 => {
            let mut headers = HeaderMap::new();
            while !input.is_empty() {
                let name = HeaderName::from_static(NAMES[usize::from(input.u8()) % NAMES.len()]);
                if let Ok(value) = HeaderValue::from_bytes(input.short()) {
                    headers.insert(name, value);
                }
            }
            if let Ok(said) = foreign::read_upload(&headers) {
                let offset = said.offset.unwrap_or(1);
                assert!(offset > 0, "an offset of nothing");
                assert!(said.checksum.is_none_or(|words| words.contains(':')));
            }
        }
        1 => {
            let path = text(input.rest());
            for prefix in ["/ctp", "/dav"] {
                let Some((_, within)) = foreign::read_place(&path, prefix) else { continue };
                assert!(!within.starts_with('/') && !within.ends_with('/'), "{within}");
                assert!(!within.split('/').any(|part| part == ".."), "{within} leads out");
                let _ = check_path(&within);
            }
        }
        _ => {
            let body = input.rest();
            // Nested tags are a few bytes each: what one repeats shows how deep they may be.
            let repeat = if what & 0x80 == 0 { 1 } else { 1 + (48 << 10) / body.len().max(1) };
            let body = body.repeat(repeat.min(20_000));
            let count = foreign::count_properties(&body);
            assert!(count.unwrap_or(0) <= body.len() / 4);
        }
    }
}

const NAMES: [&str; 12] = [
    "content-length",
    "content-range",
    "upload-complete",
    "upload-offset",
    "upload-length",
    "x-expected-entity-length",
    "x-oc-mtime",
    "oc-checksum",
    "repr-digest",
    "headend-attributes",
    "headend-blake3",
    "authorization",
];

/// What a node asks a node, and who may ask a base.
pub fn peer(data: &[u8]) {
    let mut input = Input::new(data);
    let size = input.u64();
    let text = text(input.rest());
    if let Ok(Some(range)) = range::parse(Some(&text), size) {
        assert!(range.start < range.end && range.end <= size, "{range:?} of {size}");
    }
    if let Ok(providers) = read_providers(&text) {
        assert!(providers.len() <= text.lines().count());
        let names: BTreeSet<_> = providers.iter().map(|provider| &provider.name).collect();
        assert_eq!(quotas_of(&providers).len(), names.len());
        assert!(providers.iter().all(|provider| !provider.name.is_empty()));
    }
}
