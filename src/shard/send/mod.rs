//! Sends: what pumps and connections give to the ring, and the results of sends.
//!
//! ```text
//!  vod::pump, live::core::pump --sink--> runs --RunSent--> counted, or the stream is told
//!  answers, RTCP, frames -------> one send a connection --StreamSent--> the next send
//! ```
//! | file | what is there |
//! |---|---|
//! | `sink` | the ring as the sink of the pumps; owners of runs in flight |
//! | `udp` | streams of titles over UDP, and the result of every run |
//! | `tcp` | answers and media over RTSP connections |
//! | `tls` | the same, encrypted |
//! | `live` | readers of live paths, over UDP and TCP |
//! | `srtp` | packets of streams that are encrypted |
//! | `reads` | bytes of files for what is encrypted |
//! | `again` | lost packets, sent again |

mod again;
mod live;
mod reads;
pub(super) mod sink;
pub(super) mod srtp;
pub(super) mod tcp;
pub(super) mod tls;
mod udp;
