//! What RTSP asks of a server, and what players make of it: `src/rtsp/CLIENTS.md` has their rules.

mod description;
mod requests;
mod session;
mod status;
mod transport;
