//! Limits of live channels, each with the reason for its value.

use std::time::Duration;

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

/// Bytes of one packet from a source at most, RTP header included: what an interleaved frame
/// holds. Datagrams are shorter: a buffer of the ring holds 2 KiB.
pub const PACKET_BYTES_MAX: usize = 65_535;

/// Bytes of an RTP packet that readers over UDP are sent as it came: what an Ethernet frame holds
/// over IPv4.
pub const DATAGRAM_BYTES_MAX: usize = 1_472;

/// Bytes of an RTP packet that a longer one is cut into, header included: it fits an Ethernet frame
/// over IPv6, in most tunnels, and when it is sent again with two bytes more.
pub const CUT_BYTES_MAX: usize = 1_400;

/// Packets of a run at most: where the gain of segmentation offload ends (DESIGN section 6).
pub const RUN_PACKETS_MAX: u16 = 16;

/// Bytes of a run at most: what one UDP send carries over IPv4.
pub const RUN_BYTES_MAX: u32 = 65_507;

/// The first packet of a batch waits this long at most for others of its frame: one slot of the
/// wheel, so that with the slot before the send it stays below the 5 ms of DESIGN section 10.
pub const BATCH_HOLD: Duration = Duration::from_millis(2);

/// Batches of a ring at most: at one each 2 ms these are 16 s.
pub const RING_BATCHES_MAX: usize = 8_192;

/// What a ring keeps for readers that are late and for retransmission, beside the newest group of
/// pictures: twice the lag budget.
pub const RING_HISTORY: Duration = Duration::from_secs(4);

/// A stream waits so long for a picture to begin with, then it is sent what comes: decoders conceal
/// what they lack, and intra refresh repairs it. Players give up after 10 s without a packet
/// (client rule C16).
pub const SYNC_WAIT_MAX: Duration = Duration::from_secs(8);

/// How fast a reader that begins in the past catches up, as a multiple of the speed at which the
/// packets came: the second that it is behind on average takes a third of a second, and a
/// receive buffer that holds a frame holds what comes in.
pub const CATCH_UP_SPEED: u64 = 4;

/// A source without a sign of life for this long is gone, unless the path says otherwise. Encoders
/// pause for a few seconds when their input stalls.
pub const SOURCE_SILENCE: Duration = Duration::from_secs(10);

/// A camera over TCP that sends nothing and answers no keep-alive for this long is gone: it is
/// asked every 20 s at the latest, and may take as long to answer as others may be silent.
pub const CAMERA_SILENCE: Duration = Duration::from_secs(30);

/// A camera over TCP that answers and sends no packet for this long is fetched again: its encoder
/// hangs, as a rule. A time lapse sends a picture more often, or its path says how often.
pub const ANSWERS_ONLY_MAX: Duration = Duration::from_secs(120);

/// Another SSRC of another address takes over from one that has been silent for this long.
pub const SSRC_SILENCE: Duration = Duration::from_secs(2);

/// An SSRC that was replaced does not come back before the one that replaced it is silent for this
/// long: packets that were overtaken on their way come within it, and of several streams at one
/// place one is taken. An SSRC that was not heard for `SSRC_SILENCE` comes back at once.
pub const SSRC_REORDER: Duration = Duration::from_millis(250);

/// Receiver reports to a publisher: RFC 3550 s6.2, without the random factor of many members.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// A key frame is asked of a source this often at most: an encoder that makes only key frames
/// helps nobody.
pub const SYNC_REQUEST_INTERVAL: Duration = Duration::from_millis(500);

/// For readers that report a lost picture a key frame is asked this often at most: on a way that
/// loses packets there is always one of them.
pub const LOSS_SYNC_INTERVAL: Duration = Duration::from_secs(2);

/// A DESCRIBE waits this long for parameter sets that the source sends in band only: a camera that
/// is opened begins with a key frame, or sends one within four seconds. Players wait eight seconds
/// and more for the answer.
pub const SETS_WAIT: Duration = Duration::from_secs(4);

/// Readers are told of new parameter sets this often at most: a source that changes them with each
/// picture is broken or means harm.
pub const REDESCRIBE_INTERVAL: Duration = Duration::from_secs(1);

/// A reader of a source on demand waits this long for it.
pub const PULL_START_MAX: Duration = Duration::from_secs(10);

/// First wait before a failed pull is tried again; it doubles up to `PULL_BACKOFF_MAX`.
pub const PULL_BACKOFF: Duration = Duration::from_secs(1);

/// A camera that was off is back on the screen within this and its own start.
pub const PULL_BACKOFF_MAX: Duration = Duration::from_secs(30);

/// A PLAY waits this long for the first packet of each track, then it is answered without what is
/// not known. Players give up after five seconds and more.
pub const START_WAIT_MAX: Duration = Duration::from_secs(1);

/// How long packets can be asked for again, as readers are told: half of `RING_HISTORY`.
pub const RETRANSMIT_TIME: Duration = Duration::from_secs(2);

/// Packets sent for each packet that may be sent again: a tenth of the bandwidth.
pub const RETRANSMIT_SHARE: u32 = 10;

/// Retransmissions that may be saved up: a lost burst of a frame.
pub const RETRANSMIT_BURST: u32 = 64;

/// What was asked of a home and not answered is asked again after this, then after twice as long,
/// up to `ASK_AGAIN_MAX`: an inbox that was full is empty again within a turn or two.
pub const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A home that does not answer for so long hangs; it is not asked more often.
pub const ASK_AGAIN_MAX: Duration = Duration::from_secs(8);

/// Shards tell homes what they hold and listen to this often: a message that was lost is made good
/// by the next one.
pub const RENEW_INTERVAL: Duration = Duration::from_secs(5);

/// A publisher or a listening shard of which a home has not heard for this long has gone without
/// its word: several renewals were lost in a row, or what said that it goes.
pub const LEASE: Duration = Duration::from_secs(30);
