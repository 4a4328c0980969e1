//! The edges: descriptors, system calls, `/proc`.
//!
//! ```text
//! poll       which descriptor is ready        (epoll, level-triggered)
//! udp        datagrams in batches             (recvmmsg, GRO, packet info, kernel time stamps)
//! sockets    making sockets and port pairs
//! tls        rtsps:// around a connection
//! publisher  the thread that publishes
//! flood      the thread of neighbours who misbehave
//! process    CPU, context switches, memory of the server
//! host       what machine this is
//! ```
//! All unsafe code of this program is in `udp`.

pub mod flood;
pub mod host;
pub mod poll;
pub mod process;
pub mod publisher;
pub mod sockets;
pub mod tls;
pub mod udp;
