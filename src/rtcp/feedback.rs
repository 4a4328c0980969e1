//! Writes feedback to a sender: NACK and PLI (RFC 4585 s6), FIR (RFC 5104 s4.3.1).
//!
//! A compound packet begins with a report; where the SDP offers `rtcp-rsize` feedback may go
//! alone (RFC 5506).
#![deny(clippy::indexing_slicing)]

use super::compound::{CompoundWriter, NoRoom};
use super::packet::{FMT_FIR, FMT_NACK, FMT_PLI, PAYLOAD_FEEDBACK, TRANSPORT_FEEDBACK};
use crate::base::ids::{SeqNo, Ssrc};

impl CompoundWriter<'_> {
    /// Generic NACK for packets of `media`, their numbers in the order of the stream: those within
    /// 16 behind another share its four bytes. Nothing is written when nothing is lost.
    ///
    /// # Errors
    /// The buffer is full.
    pub fn nack(&mut self, sender: Ssrc, media: Ssrc, lost: &[SeqNo]) -> Result<(), NoRoom> {
        let count = pairs(lost).count();
        if count == 0 {
            return Ok(());
        }
        self.begin(FMT_NACK, TRANSPORT_FEEDBACK, SSRCS_BYTES + count * 4)?;
        self.put_ssrcs(sender, media);
        for (first, mask) in pairs(lost) {
            self.put(&first.0.to_be_bytes());
            self.put(&mask.to_be_bytes());
        }
        Ok(())
    }

    /// Picture loss indication: the decoder needs a key picture.
    ///
    /// # Errors
    /// The buffer is full.
    pub fn pli(&mut self, sender: Ssrc, media: Ssrc) -> Result<(), NoRoom> {
        self.begin(FMT_PLI, PAYLOAD_FEEDBACK, SSRCS_BYTES)?;
        self.put_ssrcs(sender, media);
        Ok(())
    }

    /// Full intra request: somebody joins. `number` is one more for each new request.
    ///
    /// # Errors
    /// The buffer is full.
    pub fn fir(&mut self, sender: Ssrc, media: Ssrc, number: u8) -> Result<(), NoRoom> {
        self.begin(FMT_FIR, PAYLOAD_FEEDBACK, SSRCS_BYTES + 8)?;
        // The stream is named in the entry; here it is not used and zero.
        self.put_ssrcs(sender, Ssrc(0));
        self.put(&media.0.to_be_bytes());
        self.put(&[number, 0, 0, 0]);
        Ok(())
    }

    fn put_ssrcs(&mut self, sender: Ssrc, media: Ssrc) {
        self.put(&sender.0.to_be_bytes());
        self.put(&media.0.to_be_bytes());
    }
}

/// A number and the bits of those up to 16 behind it.
fn pairs(lost: &[SeqNo]) -> impl Iterator<Item = (SeqNo, u16)> {
    let mut rest = lost;
    std::iter::from_fn(move || {
        let (first, mut behind) = rest.split_first()?;
        let mut mask = 0;
        while let Some((next, others)) = behind.split_first() {
            match next.0.wrapping_sub(first.0) {
                0 => {}
                distance @ 1..=16 => mask |= 1 << (distance - 1),
                _ => break,
            }
            behind = others;
        }
        rest = behind;
        Some((*first, mask))
    })
}

const SSRCS_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rtcp_types::{Fir, Nack, PayloadFeedback, Pli, RtcpPacketWriterExt, TransportFeedback};

    use super::*;
    use crate::rtcp::packet::{Packet, packets};

    fn only(bytes: &[u8]) -> Packet<'_> {
        let all: Vec<_> = packets(bytes).collect();
        let [Ok(packet)] = all.as_slice() else { panic!("{all:?}") };
        *packet
    }

    #[test]
    fn nack_of_neighbours_shares_a_pair() {
        let mut buffer = [0; 64];
        let mut out = CompoundWriter::new(&mut buffer);
        let lost = [65_534, 65_535, 2, 14, 15].map(SeqNo);
        out.nack(Ssrc(1), Ssrc(2), &lost).unwrap();
        let expected: [u8; 20] =
            [0x81, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0xff, 0xfe, 0x80, 0x09, 0, 15, 0, 0];
        assert_eq!(out.as_bytes(), expected);
        let Packet::Nack(nack) = only(out.as_bytes()) else { panic!() };
        assert_eq!((nack.sender, nack.media), (Ssrc(1), Ssrc(2)));
        assert_eq!(nack.lost().collect::<Vec<_>>(), lost);
    }

    #[test]
    fn nack_of_nothing_writes_nothing() {
        let mut buffer = [0; 4];
        let mut out = CompoundWriter::new(&mut buffer);
        assert_eq!(out.nack(Ssrc(1), Ssrc(2), &[]), Ok(()));
        assert_eq!(out.as_bytes(), b"");
    }

    #[test]
    fn picture_requests_are_what_rtcp_types_writes() {
        let mut buffer = [0; 64];
        let mut out = CompoundWriter::new(&mut buffer);
        out.pli(Ssrc(1), Ssrc(2)).unwrap();
        let pli = Pli::builder();
        let pli = PayloadFeedback::builder(&pli).sender_ssrc(1).media_ssrc(2);
        let mut expected = [0; 64];
        let bytes = pli.write_into(&mut expected).unwrap();
        assert_eq!(out.as_bytes(), expected.get(..bytes).unwrap());
        assert_eq!(only(out.as_bytes()), Packet::Pli { sender: Ssrc(1), media: Ssrc(2) });

        let mut out = CompoundWriter::new(&mut buffer);
        out.fir(Ssrc(1), Ssrc(2), 3).unwrap();
        let fir = Fir::builder().add_ssrc(2, 3);
        let fir = PayloadFeedback::builder(&fir).sender_ssrc(1);
        let bytes = fir.write_into(&mut expected).unwrap();
        assert_eq!(out.as_bytes(), expected.get(..bytes).unwrap());
        let Packet::Fir(fir) = only(out.as_bytes()) else { panic!() };
        assert_eq!((fir.sender, fir.entries().collect::<Vec<_>>()), (Ssrc(1), vec![(Ssrc(2), 3)]));
    }

    proptest! {
        #[test]
        fn nack_reads_back_and_is_what_rtcp_types_reads(
            first: u16, steps in prop::collection::vec(1u16..40, 0..60),
        ) {
            let mut lost = vec![SeqNo(first)];
            for step in steps {
                let last = *lost.last().unwrap();
                lost.push(last.plus(step));
            }
            let mut buffer = [0; 1_024];
            let mut out = CompoundWriter::new(&mut buffer);
            out.nack(Ssrc(7), Ssrc(8), &lost).unwrap();
            let Packet::Nack(nack) = only(out.as_bytes()) else { panic!() };
            prop_assert_eq!(nack.lost().collect::<Vec<_>>(), lost.clone());
            use rtcp_types::RtcpPacketParser as _;
            let oracle = TransportFeedback::parse(out.as_bytes()).unwrap();
            let oracle: Nack<'_> = oracle.parse_fci().unwrap();
            prop_assert_eq!(oracle.entries().map(SeqNo).collect::<Vec<_>>(), lost);
        }
    }
}
