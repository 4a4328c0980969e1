//! The sockets of a shard: how each kind is opened, received from and closed.
//!
//! | file | what is there |
//! |---|---|
//! | `open` | listeners, RTP and RTCP pairs, options, addresses |
//! | `pairs` | RTP and RTCP sockets that many clients share |
//! | `inputs`, `membership` | sockets of sources that listen, and joining groups |
//! | `groups` | the pair that sends to multicast groups, and the RTCP sockets of groups |
//! | `cameras` | connections to cameras that are pulled from |
//! | `peer_state` | the kernel's record of a TCP peer (`TCP_INFO`) |

mod cameras;
pub mod groups;
pub(super) mod inputs;
mod membership;
mod open;
pub(super) mod pairs;
pub(super) mod peer_state;

pub use open::{
    Family, UdpPair, family_of, is_port_taken, listen_tcp, local_addr, peer_addr,
    set_fragmentation, set_stream_options, stream_to, to_socket_address, udp_pair, unmapped,
};
