//! The requests a client sends, as bytes.
//!
//! ```text
//! Request + Head (CSeq, URL, Session, Transport, Range) --write--> RTSP/1.0 message
//! ```
//! RFC 2326 s10 and s12: which headers go with which method.
//! Invariant: every message has a CSeq, and a Session once the server has named one.
//! Bound: one message per call, as long as the URL and the session id the server gave.

use rtsp_types::headers as names;
use rtsp_types::{Method, Url, Version};
use std::fmt;
use std::time::Duration;

const USER_AGENT: &str = concat!("headend-loadgen/", env!("CARGO_PKG_VERSION"));

/// Requests this client sends; the report keeps answer times per request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Request {
    /// OPTIONS.
    Options,
    /// DESCRIBE.
    Describe,
    /// ANNOUNCE, of a publisher.
    Announce,
    /// SETUP of one track.
    Setup,
    /// PLAY.
    Play,
    /// RECORD, of a publisher.
    Record,
    /// PAUSE.
    Pause,
    /// GET_PARAMETER, or OPTIONS where that is not offered, to keep the session.
    KeepAlive,
    /// TEARDOWN.
    Teardown,
}

impl Request {
    /// Every request, in the order a session sends them.
    pub const ALL: [Self; 9] = [
        Self::Options,
        Self::Describe,
        Self::Announce,
        Self::Setup,
        Self::Play,
        Self::Record,
        Self::Pause,
        Self::KeepAlive,
        Self::Teardown,
    ];

    /// Position in [`Request::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Options => 0,
            Self::Describe => 1,
            Self::Announce => 2,
            Self::Setup => 3,
            Self::Play => 4,
            Self::Record => 5,
            Self::Pause => 6,
            Self::KeepAlive => 7,
            Self::Teardown => 8,
        }
    }

    /// Name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Options => "OPTIONS",
            Self::Describe => "DESCRIBE",
            Self::Announce => "ANNOUNCE",
            Self::Setup => "SETUP",
            Self::Play => "PLAY",
            Self::Record => "RECORD",
            Self::Pause => "PAUSE",
            Self::KeepAlive => "keep-alive",
            Self::Teardown => "TEARDOWN",
        }
    }

    /// The method that stands for it; `has_get_parameter` as in [`Head`].
    #[must_use]
    pub const fn method(self, has_get_parameter: bool) -> Method {
        match self {
            Self::Options => Method::Options,
            Self::Describe => Method::Describe,
            Self::Announce => Method::Announce,
            Self::Setup => Method::Setup,
            Self::Play => Method::Play,
            Self::Record => Method::Record,
            Self::Pause => Method::Pause,
            Self::KeepAlive if has_get_parameter => Method::GetParameter,
            Self::KeepAlive => Method::Options,
            Self::Teardown => Method::Teardown,
        }
    }

    /// Appends the message to `out`.
    pub fn write(self, head: &Head<'_>, out: &mut Vec<u8>) {
        let method = self.method(head.has_get_parameter);
        let mut builder = rtsp_types::Request::builder(method, Version::V1_0)
            .request_uri(head.url.clone())
            .header(names::CSEQ, head.cseq.to_string())
            .header(names::USER_AGENT, USER_AGENT);
        if let Some(id) = head.session_id {
            builder = builder.header(names::SESSION, id);
        }
        if let Some(authorization) = head.authorization {
            builder = builder.header(names::AUTHORIZATION, authorization);
        }
        match (self, head.transport) {
            (Self::Describe, _) => builder = builder.header(names::ACCEPT, "application/sdp"),
            (Self::Play, _) => {
                if let Some(start) = head.start {
                    let range = format!("npt={:.3}-", start.as_secs_f64());
                    builder = builder.header(names::RANGE, range);
                }
            }
            (Self::Setup, Some(ask)) => {
                let mode = if head.is_record { ";mode=record" } else { "" };
                let transport = format!("{}{mode}", transport_header(ask, head.is_secure));
                builder = builder.header(names::TRANSPORT, transport);
            }
            (Self::Record, _) => builder = builder.header(names::RANGE, "npt=0.000-"),
            (Self::Announce, _) => {
                builder = builder.header(names::CONTENT_TYPE, "application/sdp");
                let _ = builder.build(head.description.as_bytes()).write(out);
                return;
            }
            _ => {}
        }
        // Writing to a vector cannot fail.
        let _ = builder.empty().write(out);
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Transport to ask for, one per track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportAsk {
    /// UDP to this pair of our ports.
    Udp {
        /// Port for RTP, even.
        rtp_port: u16,
        /// Port for RTCP.
        rtcp_port: u16,
    },
    /// Interleaved on the RTSP connection.
    Tcp {
        /// Channel for RTP; RTCP takes the next.
        channel: u8,
    },
}

/// What a request says beside its method.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Number that its answer repeats.
    pub cseq: u32,
    /// What it is about.
    pub url: &'a Url,
    /// As the server named the session.
    pub session_id: Option<&'a str>,
    /// Transport of the track a SETUP is about.
    pub transport: Option<TransportAsk>,
    /// SETUP is for packets that are encrypted.
    pub is_secure: bool,
    /// SETUP is for sending, not for receiving.
    pub is_record: bool,
    /// Where a PLAY starts; from where it is without.
    pub start: Option<Duration>,
    /// Answer to the server's challenge.
    pub authorization: Option<&'a str>,
    /// The server offers GET_PARAMETER, which then keeps the session.
    pub has_get_parameter: bool,
    /// What ANNOUNCE announces.
    pub description: &'a str,
}

fn transport_header(ask: TransportAsk, is_secure: bool) -> String {
    let profile = if is_secure { "SAVP" } else { "AVP" };
    match ask {
        TransportAsk::Udp { rtp_port, rtcp_port } => {
            format!("RTP/{profile};unicast;client_port={rtp_port}-{rtcp_port}")
        }
        TransportAsk::Tcp { channel } => {
            let rtcp_channel = channel.saturating_add(1);
            format!("RTP/{profile}/TCP;unicast;interleaved={channel}-{rtcp_channel}")
        }
    }
}
