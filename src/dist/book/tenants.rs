//! What each client has of the base: bytes of contents that are kept for it.
//!
//! ```text
//! command with a size, bytes that come, end of an upload --charge--> bytes of the client
//!                                         contents that may go --release--> fewer
//! ```
//! Invariant: a content counts once, by the most that was said of it or came of it, until the base
//! has told that it may go; a client's bytes are the sum of its contents.

use std::collections::HashMap;

use crate::dist::ids::ContentId;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tenants {
    bytes: HashMap<String, u64>,
    charged: HashMap<ContentId, (String, u64)>,
}

impl Tenants {
    /// Bytes of a client.
    pub(super) fn bytes(&self, client: &str) -> u64 {
        self.bytes.get(client).copied().unwrap_or(0)
    }

    /// A content of the client has, or will have, so many bytes. Fewer than before change nothing.
    /// Whether they are more than before.
    pub(super) fn charge(&mut self, client: &str, content: ContentId, bytes: u64) -> bool {
        let (_, known) = self.charged.entry(content).or_insert_with(|| (client.to_owned(), 0));
        let more = bytes.saturating_sub(*known);
        if more > 0 {
            *known = bytes;
            let all = self.bytes.entry(client.to_owned()).or_default();
            *all = all.saturating_add(more);
        }
        more > 0
    }

    /// The base does not keep a content any more.
    pub(super) fn release(&mut self, content: ContentId) {
        let Some((client, bytes)) = self.charged.remove(&content) else { return };
        if let Some(all) = self.bytes.get_mut(&client) {
            *all = all.saturating_sub(bytes);
            if *all == 0 {
                self.bytes.remove(&client);
            }
        }
    }
}
