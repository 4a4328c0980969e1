//! DESCRIBE of a title (RFC 2326 s10.2).

use std::net::IpAddr;

use crate::library::title::Title;
use crate::poll::task::OpenFailure;
use crate::rtsp::headers::is_accepted;
use crate::rtsp::request::Request;
use crate::rtsp::response::{Response, Status};
use crate::rtsp::uri::base_url;
use crate::sdp::{Description, describe};
use crate::session::client::takes_feedback;
use crate::vod::retransmit::rtx_payload_type;

/// We have nothing but SDP to describe with.
///
/// # Errors
/// 406 when the client takes no SDP.
pub fn check_accept(request: &Request) -> Result<(), Status> {
    match request.header("Accept") {
        Some(accept) if !is_accepted(accept, SDP) => Err(Status::NotAcceptable),
        _ => Ok(()),
    }
}

/// 200 with the description of `title`. `local` is our address on the connection. What a client
/// lost is offered to be sent again where we do that and the client understands it.
#[must_use]
pub fn answer(request: &Request, title: &Title, local: IpAddr, retransmits: bool) -> Response {
    let name = title.name.rsplit('/').next().unwrap_or(&title.name);
    let version = u64::try_from(title.identity.modified_ns).unwrap_or(0);
    let description = Description {
        asset: &title.asset,
        name,
        session_id: title.identity.inode,
        version,
        origin: local,
        rtx: (retransmits && takes_feedback(request)).then_some(rtx_payload_type),
        calls_eac3_ac3: is_ffmpeg(request),
    };
    Response::new(Status::Ok, request.cseq)
        .header("Content-Base", base_url(&request.uri))
        .body(SDP, describe(&description).into_bytes())
}

/// Client rule C32: FFmpeg's RTP reader has no name for E-AC-3; that of AC-3 finds out by the
/// stream which of the two it is.
fn is_ffmpeg(request: &Request) -> bool {
    request.header("User-Agent").is_some_and(|agent| agent.starts_with("Lavf"))
}

/// The answer to a request for a title that does not open.
#[must_use]
pub fn refusal(request: &Request, failure: &OpenFailure) -> Response {
    let (status, retry) = match failure {
        OpenFailure::NotFound => (Status::NotFound, false),
        OpenFailure::Unplayable(_) => (Status::UnsupportedMediaType, false),
        OpenFailure::Unavailable(_) => (Status::ServiceUnavailable, true),
    };
    let response = Response::new(status, request.cseq);
    if retry { response.header("Retry-After", "2") } else { response }
}

const SDP: &str = "application/sdp";
