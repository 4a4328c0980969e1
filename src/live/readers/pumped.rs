//! Readers as the pump of live paths sees them: the targets of their packets.

use slab::Slab;

use crate::base::ids::Ssrc;
use crate::live::core::path::ReaderKey;
use crate::live::core::pump::{Owner, Owners, To};
use crate::live::readers::reader::LiveReader;
use crate::poll::poll_table::EntryKey;
use crate::session::outgoing::Numbers;
use crate::session::transport::Transport;

impl Owners for Slab<LiveReader> {
    type Owner = LiveReader;

    #[inline]
    fn owner(&self, name: u64) -> Option<&LiveReader> {
        self.get(usize::try_from(name).ok()?)
    }

    #[inline]
    fn owner_mut(&mut self, name: u64) -> Option<&mut LiveReader> {
        self.get_mut(usize::try_from(name).ok()?)
    }
}

impl Owner for LiveReader {
    type Connection = EntryKey;

    #[inline]
    fn key(&self) -> ReaderKey {
        self.key
    }

    #[inline]
    fn stream_count(&self) -> usize {
        self.streams.len()
    }

    #[inline]
    fn to(&self, stream_index: u8) -> To {
        match self.streams.get(usize::from(stream_index)).map(|stream| stream.outgoing.transport) {
            Some(Transport::Udp { pair, rtp, .. }) => To::Datagrams { pair, client: rtp },
            Some(Transport::Tcp { channel, .. }) => To::Channel(channel),
            Some(Transport::Group { .. }) | None => To::Nowhere,
        }
    }

    #[inline]
    fn is_interleaved(&self) -> bool {
        Self::is_interleaved(self)
    }

    #[inline]
    fn connection(&self) -> Option<EntryKey> {
        self.client.connection
    }

    #[inline]
    fn note_ssrc(&mut self, stream_index: u8, ssrc: Ssrc) {
        if let Some(stream) = self.streams.get_mut(usize::from(stream_index)) {
            stream.outgoing.numbers = Numbers::Source(Some(ssrc));
        }
    }
}
