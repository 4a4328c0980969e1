//! URLs of pages that show titles and live paths in a browser (`http::hls`), for rows of the API.
//!
//! The host is that by which the API was asked, where HLS listens on all addresses: who asks can
//! reach the machine by it.

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, header};
use serde_json::{Value, json};

use super::Api;
use crate::base::url_path::encode_path;

/// Where the pages are; `None` inside: HLS is off.
#[derive(Debug)]
pub(super) struct WatchPages(Option<String>);

impl WatchPages {
    /// As who sent these headers reaches them.
    pub(super) fn new(api: &Api, headers: &HeaderMap) -> Self {
        let Some(addr) = api.view.hls_addrs().first().copied() else { return Self(None) };
        let asked = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let asked = asked.and_then(|host| host.parse::<Authority>().ok());
        let host = match (addr.ip(), asked) {
            (ip, Some(asked)) if ip.is_unspecified() => asked.host().to_owned(),
            (ip, None) if ip.is_unspecified() => "localhost".to_owned(),
            (IpAddr::V6(ip), _) => format!("[{ip}]"),
            (IpAddr::V4(ip), _) => ip.to_string(),
        };
        Self(Some(format!("http://{host}:{}", addr.port())))
    }

    /// Adds `page` to each of these rows; `path` has the name of a path in a row, or its encoded
    /// URL with a slash in front.
    pub(super) fn add_to(&self, rows: &mut Value, path: &str) {
        for row in rows.as_array_mut().into_iter().flatten() {
            self.add_to_row(row, path);
        }
    }

    /// The same for one row.
    pub(super) fn add_to_row(&self, row: &mut Value, path: &str) {
        let (Some(base), Some(name)) = (&self.0, row[path].as_str()) else { return };
        let page = match name.strip_prefix('/') {
            Some(encoded) => format!("{base}/{encoded}/"),
            None => format!("{base}/{}/", encode_path(name)),
        };
        row["page"] = json!(page);
    }
}
