//! The two compound packets that a stream sends (RFC 3550 s6.1): a report first, then SDES with
//! the CNAME, and BYE last when it ends.
//!
//! They are put together on the stack; `out` grows only when its capacity is too small.

use super::compound::{CompoundWriter, NoRoom, REPORT_BYTES_MAX, SenderInfo};
use crate::base::ids::Ssrc;

/// Appends SR + SDES(CNAME), and BYE when `bye` gives a reason (which may be empty). Texts are
/// cut at 255 bytes.
pub fn write_sender_report(
    out: &mut Vec<u8>,
    ssrc: Ssrc,
    info: &SenderInfo,
    cname: &str,
    bye: Option<&str>,
) {
    append(out, |compound| {
        compound.sender_report(ssrc, info, &[])?;
        compound.cname(ssrc, cname)?;
        bye.map_or(Ok(()), |reason| compound.bye(ssrc, reason))
    });
}

/// Appends RR (without blocks) + SDES(CNAME) + BYE: the farewell of a stream that has sent
/// nothing, for a sender report needs data to speak of (RFC 3550 s6.4).
pub fn write_empty_rr_bye(out: &mut Vec<u8>, ssrc: Ssrc, cname: &str, reason: &str) {
    append(out, |compound| {
        compound.receiver_report(ssrc, &[])?;
        compound.cname(ssrc, cname)?;
        compound.bye(ssrc, reason)
    });
}

fn append(out: &mut Vec<u8>, write: impl FnOnce(&mut CompoundWriter<'_>) -> Result<(), NoRoom>) {
    let mut buffer = [0; REPORT_BYTES_MAX];
    let mut compound = CompoundWriter::new(&mut buffer);
    let written = write(&mut compound);
    debug_assert!(written.is_ok(), "a report fits: {written:?}");
    out.extend_from_slice(compound.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::RtpTs;
    use rtcp_types::{Compound, Packet};

    #[test]
    fn farewell_of_a_silent_stream_is_a_compound_with_bye_last() {
        let mut out = vec![0xee];
        write_empty_rr_bye(&mut out, Ssrc(7), "abc", "no data");
        assert_eq!(out.first(), Some(&0xee));
        let packets: Vec<Packet<'_>> =
            Compound::parse(out.get(1..).unwrap()).unwrap().map(Result::unwrap).collect();
        let [Packet::Rr(rr), Packet::Sdes(_), Packet::Bye(bye)] = packets.as_slice() else {
            panic!("{packets:?}")
        };
        assert_eq!((rr.ssrc(), rr.n_reports()), (7, 0));
        assert_eq!(bye.ssrcs().collect::<Vec<_>>(), [7]);
        assert_eq!(bye.reason(), Some(b"no data".as_slice()));
    }

    #[test]
    fn report_has_a_bye_when_asked_and_no_room_of_its_own() {
        let info = SenderInfo { ntp: 1, rtp_ts: RtpTs(2), packet_count: 3, octet_count: 4 };
        let mut out = Vec::with_capacity(REPORT_BYTES_MAX);
        for (bye, count) in [(None, 2), (Some(""), 3), (Some("end"), 3)] {
            out.clear();
            write_sender_report(&mut out, Ssrc(7), &info, "abc", bye);
            assert_eq!(Compound::parse(&out).unwrap().map(Result::unwrap).count(), count);
            assert_eq!(out.capacity(), REPORT_BYTES_MAX);
        }
    }
}
