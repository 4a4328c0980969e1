//! What sends: the pumps' side of the ring, datagrams and RTSP connections.
//!
//! | file | what is there |
//! |---|---|
//! | `sink` | the ring as the sink of the pumps; owners of runs in flight |
//! | `udp` | titles' streams over UDP, and the outcome of every run |
//! | `tcp` | answers and media over RTSP connections |
//! | `live` | readers of live paths, over UDP and TCP |
//! | `again` | lost packets, sent again |

mod again;
mod live;
pub(super) mod sink;
mod tcp;
mod udp;
