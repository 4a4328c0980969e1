//! Log lines about sources: one line each, with a code and an event.
//!
//! ```text
//!  path live/cam1 source up h264+aac from 192.0.2.3 over tcp    code=HE-I301 event=source.up
//!  path live/cam1 source down: connection closed                code=HE-I302 event=source.down
//! ```

use crate::live::hub::Hub;
use crate::live::sources::publisher::Publisher;
use crate::live::sources::publishers::Publishers;
use crate::session::client::clip;
use crate::session::cx::Cx;

impl Publishers {
    /// Logs that a source has begun to send.
    pub(crate) fn note_up(&self, cx: &Cx, hub: &mut Hub, number: u32) {
        let Some(publisher) = self.get(&number) else { return };
        let path = publisher.source.path().clone();
        let tracks = encodings(publisher);
        let (peer, ip) = (publisher.peer, publisher.peer.ip().to_canonical());
        let transport =
            self.source_info(cx, number).and_then(|info| info.transport).unwrap_or("udp");
        let from = match publisher.plays() {
            Some((title, _)) => title.to_string(),
            None => format!("{ip} over {transport}"),
        };
        tracing::info!(
            code = "HE-I301", event = "source.up", %path, %peer, transport, tracks,
            "path {path} source up {tracks} from {from}"
        );
        hub.count_source_start(&path);
    }
}

/// Logs that a source has ended.
pub(crate) fn note_source_down(publisher: &Publisher, why: &str) {
    let (path, peer) = (publisher.source.path(), publisher.peer);
    let counts = publisher.source.counts();
    if publisher.source.began().is_none() {
        tracing::debug!(%path, %peer, reason = why, "path {path} source left before it sent: {why}");
        return;
    }
    tracing::info!(
        code = "HE-I302", event = "source.down", %path, %peer, reason = why,
        packets = counts.packets, dropped = counts.dropped.iter().sum::<u64>(),
        packets_lost = publisher.source.packets_lost(),
        "path {path} source down: {why}"
    );
}

/// Encoding names of a publisher's tracks: `h264+aac`.
fn encodings(publisher: &Publisher) -> String {
    let medias = publisher.sdp.medias().iter().map(|media| {
        let number = media.payload_types().next();
        let encoding = number.and_then(|number| media.encoding(number));
        let name = encoding.map_or_else(|| media.kind.clone(), |encoding| encoding.name);
        match name.to_ascii_lowercase().as_str() {
            "mpeg4-generic" | "mp4a-latm" => "aac".to_owned(),
            other => other.to_owned(),
        }
    });
    // The names come from the publisher.
    clip(&medias.collect::<Vec<_>>().join("+"))
}
