//! RTSP/1.0 (RFC 2326) as bytes, of a server and of a client. Owns no socket, clock or thread.
//!
//! ```text
//! server: TCP bytes -> reader -> Request -> uri, transport, range, headers  (what is asked)
//!                      response <- transport, range, headers                (what is answered)
//! client:   client_request <- source_url, transport                         (what we ask)
//!         TCP bytes -> reader -> client_response, source_url, transport     (what is answered)
//! ```
//! Reading and writing are ours, checked against the `rtsp-types` crate in tests. Its parser wants
//! CRLF, a URL that is well-formed and version 1.0 or 2.0, and gives the connection up otherwise;
//! players send LF-only lines, raw spaces and stray blank lines (client rule C31), and a request
//! that is merely wrong must get 400 with the connection kept. Its responses sort their headers;
//! ours put `CSeq` first, where simple players look for it.
//!
//! Invariant: no input panics, and no input makes more memory than `base::limits` allow.

pub mod auth;
pub mod client_request;
pub mod client_response;
pub mod error;
mod head;
pub mod headers;
pub mod key_mgmt;
pub mod range;
pub mod range_time;
pub mod reader;
pub mod request;
pub mod response;
mod resync;
pub mod source_url;
pub mod transport;
pub mod transport_answer;
pub mod uri;
