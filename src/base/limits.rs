//! Every limit in one place, each with the reason for its value.

use std::net::Ipv4Addr;
use std::time::Duration;

/// Bytes of RTP payload in one packet at most: with 12 bytes of RTP, 8 of UDP and 40 of IPv6 this
/// stays inside 1,500 bytes of Ethernet with room for a tunnel (PPPoE, GRE) on the way.
pub const RTP_PAYLOAD_BYTES_MAX: usize = 1_400;

/// Bytes of one UDP send over IPv4 at most: 65,535 less the headers of IP and UDP.
pub const UDP_SEND_BYTES_MAX: u16 = 65_507;

/// Bytes of one sample at most. A key frame of 8K intra-only video is below 32 MiB; past it a
/// count in the file is a lie.
pub const SAMPLE_BYTES_MAX: u32 = 64 << 20;

/// Bytes of `moov` (or of one `moof`) at most: 3 hours of video and eight audio tracks take 60 MiB
/// of sample tables at the very worst.
pub const MOOV_BYTES_MAX: u64 = 256 << 20;

/// Samples in one track at most: 48 hours of 48 kHz AAC are 8.1 million.
pub const TRACK_SAMPLES_MAX: u32 = 1 << 24;

/// Sample descriptions of one track at most: joined recordings bring one each.
pub const DESCRIPTIONS_MAX: usize = 1_024;

/// Changes of the sample description in one track at most, and ranges that samples left out cut a
/// track into: a change every two seconds for 36 hours. A change takes 8 bytes, a range 64.
pub const DESCRIPTION_RUNS_MAX: usize = 1 << 16;

/// Tracks in one title at most: a film with audio in thirty languages still fits.
pub const TRACKS_MAX: usize = 64;

/// Length of time that a packet window covers, in seconds (DESIGN section 4): long enough that a
/// task per window costs nothing, short enough that a seek wastes little.
pub const WINDOW_SECONDS: u32 = 2;

/// Bytes of converted sound in one window at most. They lie in memory instead of the file: two
/// seconds of 96 kHz in six channels fit, and hundreds of titles do into the cache's budget.
pub const CONVERTED_WINDOW_BYTES_MAX: usize = 4 << 20;

/// Sync samples in one window of a trick-mode stream.
pub const SYNC_WINDOW_SAMPLES: u32 = 8;

/// Bytes of one RTSP request line or header line at most: a value of 8 KiB, as web servers take,
/// with its name. Tokens in URLs and in `Authorization` are the longest lines seen.
pub const RTSP_LINE_BYTES_MAX: usize = 8_192 + 256;

/// Header lines in one RTSP request at most.
pub const RTSP_HEADERS_MAX: usize = 64;

/// Bytes of request line and headers of one RTSP request at most, unless told otherwise: eight
/// lines of full length would be twice as much, and players send a tenth of one.
pub const RTSP_HEAD_BYTES_MAX: usize = 32 << 10;

/// Bytes of one RTSP request's body at most, unless told otherwise: an SDP with many tracks is a
/// few KiB.
pub const RTSP_BODY_BYTES_MAX: usize = 64 << 10;

/// Items of a playlist at most: a day of clips of a minute and a half. A shard looks at all of them
/// when it decides what is next.
pub const PLAYLIST_ITEMS_MAX: usize = 1_000;

/// Time in a turn of a shard for each kind of work that strangers can cause without end: new
/// connections, requests, the inbox, timers. What is left waits for the next turn, behind the
/// pumps. A millisecond is a slot of the wheel, so all of them together keep packets late by a few.
pub const TURN_SHARE: Duration = Duration::from_millis(1);

/// Connections accepted in a turn at most: each takes about 15 us.
pub const CONNECTIONS_A_TURN: u32 = 64;

/// Clients that are told in a turn that there is no place for them, at most; one more is closed
/// unsaid. A write of 503 takes about 5 us, and the kernel may hand over 4,096 at once.
pub const REFUSALS_A_TURN: u32 = 64;

/// Connections whose messages are looked at in a turn at most: as many as there are receive buffers
/// (`RingConfig`). Each is answered with a send of its own.
pub const VISITS_A_TURN: u32 = 256;

/// Requests of one connection that are handled before the others have had their turn. Players send
/// one and wait; what is answered together leaves in one send.
pub const REQUESTS_A_VISIT: u32 = 8;

/// The same of interleaved packets (RFC 2326 s10.12): all of a read of 4 KiB, as a rule.
pub const FRAMES_A_VISIT: u32 = 64;

/// Bytes of answers that a client or a source does not take at most: a few hundred answers. Then
/// nothing more is read from it until it does.
pub const OUTPUT_BYTES_MAX: usize = 64 << 10;

/// Handshakes of TLS under way on a shard at most, unless told otherwise. Each takes some KiB, and
/// up to a millisecond of CPU time: as many are done in a quarter of a second.
pub const TLS_HANDSHAKES_MAX: usize = 256;

/// Tunnels over HTTP whose second connection has not come, known to a shard at most, unless told
/// otherwise.
pub const HALF_OPEN_TUNNELS_MAX: usize = 256;

/// Bytes that a connection has encrypted in a turn at most: a key frame of a film fits, and its
/// records fit the copies that one send takes.
pub const TLS_BYTES_A_SEND: usize = 128 << 10;

/// Bytes that a shard encrypts in a turn at most: about a millisecond.
pub const TLS_BYTES_A_TURN: usize = 1 << 20;

/// Bytes of SRTP over UDP that a shard encrypts in a turn at most: about a millisecond.
pub const SRTP_BYTES_A_TURN: usize = 512 << 10;

/// Datagrams handled in a turn at most: what a ring's buffers hold, twice.
pub const DATAGRAMS_A_TURN: usize = 1_024;

/// Datagrams that wait for the next turns at most.
pub const DATAGRAMS_WAITING_MAX: usize = 4_096;

/// Outcomes of tasks that are handled in a turn at most, and messages of other threads.
pub const MESSAGES_A_TURN: u32 = 1_024;

/// Timers that are handled in a turn at most: reports, pause points, looks at clients. Streams that
/// are due are counted by the ring's room.
pub const TIMERS_A_TURN: u32 = 4_096;

/// Sessions that a shard shows in one turn at most, when it is asked for a list: each takes about a
/// microsecond.
pub const SESSIONS_A_PAGE: usize = 256;

/// Packets of one stream in one turn, unless a frame or a batch is larger than its time allows
/// (DESIGN section 6.3): a default receive buffer holds about 92.
pub const BURST_PACKETS_MAX: usize = 32;

/// From one burst of a stream to the next, and to another try when the socket was full.
pub const BURST_INTERVAL: Duration = Duration::from_millis(2);

/// Paths that have their owner on one shard at most: a stranger who may publish must not fill the
/// memory with names. As many can be named in the configuration.
pub const PATHS_MAX: usize = 4_096;

/// Bytes of a live path's ring on each shard unless the path says otherwise: ten seconds of 25
/// Mbit/s.
pub const RING_BYTES: usize = 32 << 20;

/// A reader of a live path that is later than this skips to the newest key frame, unless the path
/// says otherwise. Players buffer two seconds at most by default.
pub const LAG_BUDGET: Duration = Duration::from_secs(2);

/// Readers of one live path on one shard at most, unless the path says otherwise.
pub const READERS_MAX: usize = 16_384;

/// Readers wait this long for their publisher to come back, unless the path says otherwise.
pub const READERS_HOLD: Duration = Duration::from_secs(10);

/// A source on demand is closed this long after its last reader, unless the path says otherwise.
pub const IDLE_CLOSE: Duration = Duration::from_secs(10);

/// Groups that live paths are sent to unless told otherwise, first address and prefix: the scope of
/// a site, for everyone to use (RFC 2365 s6.1).
pub const GROUP_RANGE: (Ipv4Addr, u8) = (Ipv4Addr::new(239, 255, 0, 0), 16);

/// RTP port of a group's first track unless told otherwise: behind the pair of shard 0.
pub const GROUP_RTP_PORT: u16 = 8_002;

/// Routers that packets to a group may pass unless told otherwise: those of a site.
pub const GROUP_TTL: u8 = 8;
