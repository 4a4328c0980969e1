//! Live paths as clients and operators see them.

use serde_json::Value;

use super::http::{get_json, list};
use super::rtsp::Client;
use super::server::Server;
use super::wait::until;

/// Status and body of DESCRIBE.
pub(crate) fn description(server: &Server, url: &str) -> (u16, String) {
    let response = Client::connect(server.rtsp).request("DESCRIBE", url, &[]);
    (response.status, response.body)
}

/// Status of DESCRIBE.
pub(crate) fn describe(server: &Server, path: &str) -> u16 {
    description(server, &server.url(path)).0
}

pub(crate) fn wait_until_described(server: &Server, path: &str) {
    wait_until_url_is_described(server, &server.url(path));
}

pub(crate) fn wait_until_url_is_described(server: &Server, url: &str) {
    until("the path is published", || description(server, url).0 == 200);
}

/// A path as the API shows it; null when it is not there.
pub(crate) fn path(server: &Server, name: &str) -> Value {
    let paths = list(get_json(server.admin, "/v1/paths"));
    paths.into_iter().find(|path| path["path"] == name).unwrap_or_default()
}

/// The state of a path; `none` when it is not there.
pub(crate) fn state(server: &Server, name: &str) -> String {
    path(server, name)["state"].as_str().unwrap_or("none").to_owned()
}
