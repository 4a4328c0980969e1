//! Limits of live channels, each with the reason for its value.

use std::time::Duration;

use crate::base::limits::UDP_SEND_BYTES_MAX;
// What the configuration says of a path begins with these.
pub use crate::base::limits::{
    IDLE_CLOSE, LAG_BUDGET, PATHS_MAX, READERS_HOLD, READERS_MAX, RING_BYTES,
};

/// Tracks of a live path at most: a camera has two or three, a multi-language channel ten.
pub const LIVE_TRACKS_MAX: usize = 16;

/// Packets of a batch at most: a key frame of 700 kB. A larger frame becomes several batches.
pub const BATCH_PACKETS_MAX: usize = 512;

/// Bytes of a batch at most: `BATCH_PACKETS_MAX` packets of an Ethernet frame fit.
pub const BATCH_BYTES_MAX: usize = 768 << 10;

/// Bytes of one packet from a source at most, RTP header included: the limit of an interleaved
/// frame. Datagrams are shorter: a buffer of the io_uring ring holds 2 KiB.
pub const PACKET_BYTES_MAX: usize = 65_535;

/// Bytes of an RTP packet that readers over UDP get as received: the room in an Ethernet frame over
/// IPv4.
pub const DATAGRAM_BYTES_MAX: usize = 1_472;

/// Bytes of each piece of a longer RTP packet, header included: the piece fits an Ethernet frame
/// over IPv6 and most tunnels, and a retransmission has two bytes more.
pub const CUT_BYTES_MAX: usize = 1_400;

/// Packets of a run at most: where the gain of segmentation offload ends (DESIGN section 6).
pub const RUN_PACKETS_MAX: u16 = 16;

/// Bytes of a run at most: it is one UDP send.
pub const RUN_BYTES_MAX: u32 = UDP_SEND_BYTES_MAX as u32;

/// The first packet of a batch waits this long at most for others of its frame: one slot of the
/// wheel, so that with the slot before the send it stays below the 5 ms of DESIGN section 10.
pub const BATCH_HOLD: Duration = Duration::from_millis(2);

/// Batches of a ring at most: at one each 2 ms these are 16 s.
pub const RING_BATCHES_MAX: usize = 8_192;

/// History of a ring, for late readers and retransmission, beside the newest group of pictures:
/// twice the lag budget.
pub const RING_HISTORY: Duration = Duration::from_secs(4);

/// A stream waits this long for a key frame to start with; after that every packet is sent.
/// Decoders conceal missing references, and intra refresh repairs them. Players give up after 10 s
/// without a packet (client rule C16).
pub const SYNC_WAIT_MAX: Duration = Duration::from_secs(8);

/// Speed at which a reader that starts in the past catches up, as a multiple of the speed at which
/// the packets arrived. The average lag of a second takes a third of a second to catch up, and a
/// receive buffer that holds a frame holds what arrives.
pub const CATCH_UP_SPEED: u64 = 4;

/// A source without a sign of life for this long is gone, unless the path says otherwise. Encoders
/// pause for a few seconds when their input stalls.
pub const SOURCE_SILENCE: Duration = Duration::from_secs(10);

/// A camera over TCP that sends nothing and answers no keep-alive for this long is gone. The server
/// sends a keep-alive every 20 s at the latest; the camera may take as long to answer as other
/// sources may be silent.
pub const CAMERA_SILENCE: Duration = Duration::from_secs(30);

/// A camera over TCP that answers and sends no packet for this long is fetched again: as a rule its
/// encoder hangs. A time lapse sends a frame more often, or its path states how often.
pub const ANSWERS_ONLY_MAX: Duration = Duration::from_secs(120);

/// An SSRC from another address takes over from one that has been silent for this long.
pub const SSRC_SILENCE: Duration = Duration::from_secs(2);

/// A replaced SSRC comes back only after its successor has been silent for this long: overtaken
/// packets arrive within this time, and of several streams at one place one is taken. An SSRC that
/// was not heard for `SSRC_SILENCE` comes back at once.
pub const SSRC_REORDER: Duration = Duration::from_millis(250);

/// Interval of receiver reports to a publisher: RFC 3550 s6.2, without the random factor of many
/// members.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Interval of key frame requests to a source at least: an encoder that makes only key frames helps
/// nobody.
pub const SYNC_REQUEST_INTERVAL: Duration = Duration::from_millis(500);

/// Interval of key frame requests for readers with a lost frame at least: on a lossy network some
/// reader always reports a loss.
pub const LOSS_SYNC_INTERVAL: Duration = Duration::from_secs(2);

/// A DESCRIBE waits this long for parameter sets that the source sends in band only. A camera that
/// is opened begins with a key frame, or sends one within four seconds. Players wait eight seconds
/// and more for the answer.
pub const SETS_WAIT: Duration = Duration::from_secs(4);

/// Interval of new descriptions to readers at least: a source that changes its parameter sets with
/// each frame is broken or hostile.
pub const REDESCRIBE_INTERVAL: Duration = Duration::from_secs(1);

/// A reader waits this long for a source on demand.
pub const PULL_START_MAX: Duration = Duration::from_secs(10);

/// First wait before a failed pull is tried again; it doubles up to `PULL_BACKOFF_MAX`.
pub const PULL_BACKOFF: Duration = Duration::from_secs(1);

/// Longest wait before a failed pull is tried again: a camera that was off is shown within this
/// wait and its own start.
pub const PULL_BACKOFF_MAX: Duration = Duration::from_secs(30);

/// A PLAY waits this long for the first packet of each track. After that the answer leaves out
/// unknown values. Players give up after five seconds and more.
pub const START_WAIT_MAX: Duration = Duration::from_secs(1);

/// Time within which readers are told to ask for retransmissions: half of `RING_HISTORY`.
pub const RETRANSMIT_TIME: Duration = Duration::from_secs(2);

/// Packets sent for each packet of retransmission: a tenth of the bandwidth.
pub const RETRANSMIT_SHARE: u32 = 10;

/// Retransmissions that a reader may save up: a lost burst of a frame.
pub const RETRANSMIT_BURST: u32 = 64;

/// A request to an owner without an answer is repeated after this, then after twice as long, up to
/// `ASK_AGAIN_MAX`: a full inbox is empty again within a turn or two.
pub const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Longest wait before a request is repeated: an owner that does not answer for this long hangs.
pub const ASK_AGAIN_MAX: Duration = Duration::from_secs(8);

/// Interval at which shards tell owners what they hold and listen to: the next message makes a lost
/// one good.
pub const RENEW_INTERVAL: Duration = Duration::from_secs(5);

/// An owner gives up a publisher or a listening shard without a renewal for this long: several
/// renewals in a row were lost, or the message of its end.
pub const LEASE: Duration = Duration::from_secs(30);
