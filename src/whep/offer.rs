//! What of an offer the library of WebRTC reads: the lines that an answer depends on, and few.
//!
//! ```text
//!  offer, 32 KiB at most --reduced, one pass--> sections, their codecs that a path may have, and
//!                                               their ICE and DTLS --> str0m
//! ```
//! str0m reads on the thread that all viewers wait for. So it gets neither candidates, which are
//! not needed, nor codecs that no path has. An answer to what is left answers the whole offer: it
//! has the same sections, and payload types of it (RFC 3264 s6).
//!
//! Milliseconds for one session, all of it, by a release build:
//!
//! ```text
//!                                     str0m alone    reduced
//!  as Chromium makes it, 169 lines       2.8           2.8     2.6 of them whatever the offer is
//!  128 payload types                     5.4       refused
//!  one line of 28 kB, a=simulcast        4.9           2.6
//!  900 lines of an unknown kind          3.9       refused
//!  one line of 30 kB, a=fmtp             3.4           3.4
//!  346 lines of 80 bytes                 3.1           3.1
//! ```
//! Bounds: `LINES_MAX` of an offer, `SECTIONS_MAX`; of what is left `KEPT_MAX` lines and
//! `FORMATS_MAX` payload types a section.
#![deny(clippy::indexing_slicing)]

use crate::whep::OfferError;

/// The part of an offer that is read.
///
/// # Errors
/// It has more than an offer has.
pub(super) fn reduced(sdp: &str) -> Result<String, OfferError> {
    let lines: Vec<&str> = sdp.lines().take(LINES_MAX + 1).collect();
    if lines.len() > LINES_MAX {
        return refused(format!("there are more than {LINES_MAX} lines"));
    }
    let mut kept = Vec::new();
    let mut sections = lines.split(|line| line.starts_with("m="));
    kept.extend(sections.next().unwrap_or_default().iter().copied().filter(is_read));
    let mut kept: Vec<String> = kept.into_iter().map(str::to_owned).collect();
    let heads: Vec<&str> = lines.iter().copied().filter(|line| line.starts_with("m=")).collect();
    if heads.len() > SECTIONS_MAX {
        return refused(format!("there are more than {SECTIONS_MAX} sections"));
    }
    for (head, section) in heads.into_iter().zip(sections) {
        keep_section(head, section, &mut kept)?;
    }
    if kept.len() > KEPT_MAX {
        return refused(format!("more than {KEPT_MAX} lines say what is to be sent"));
    }
    Ok(kept.into_iter().map(|line| line + "\r\n").collect())
}

fn keep_section(head: &str, lines: &[&str], kept: &mut Vec<String>) -> Result<(), OfferError> {
    let is_known = head.starts_with("m=audio ") || head.starts_with("m=video ");
    if !is_known {
        return refused("a section is neither audio nor video".to_owned()).map(|_| ());
    }
    let offered: Vec<&str> = head.split(' ').skip(WORDS_BEFORE_FORMATS).collect();
    let is_sent = |format: &&str| {
        let names = lines.iter().filter_map(|line| {
            let (of, name) = line.strip_prefix("a=rtpmap:")?.split_once(' ')?;
            (of == *format).then(|| name.split('/').next().unwrap_or_default())
        });
        let mut names = names;
        names.any(|name| CODECS.iter().any(|codec| name.eq_ignore_ascii_case(codec)))
    };
    if offered.len() > OFFERED_MAX {
        return refused(format!("a section has more than {OFFERED_MAX} payload types")).map(|_| ());
    }
    let mut formats: Vec<&str> = offered.iter().copied().filter(is_sent).collect();
    if formats.is_empty() {
        // Nothing of it can be sent; the answer refuses it by the name of the first.
        formats.extend(offered.first());
    }
    if formats.len() > FORMATS_MAX {
        let why = format!("a section has more than {FORMATS_MAX} payload types of {CODECS:?}");
        return refused(why).map(|_| ());
    }
    let words: Vec<&str> =
        head.split(' ').take(WORDS_BEFORE_FORMATS).chain(formats.iter().copied()).collect();
    kept.push(words.join(" "));
    for line in lines.iter().filter(|line| is_read(line)) {
        let of = OF_FORMATS.iter().find_map(|name| line.strip_prefix(name));
        let format = of.map(|of| of.split(' ').next().unwrap_or_default());
        if format.is_none_or(|format| format == "*" || formats.contains(&format)) {
            kept.push((*line).to_owned());
        }
    }
    Ok(())
}

/// Whether an answer may depend on a line.
fn is_read(line: &&str) -> bool {
    !line.is_empty() && !UNREAD.iter().any(|name| line.starts_with(name))
}

fn refused(why: String) -> Result<String, OfferError> {
    Err(OfferError::Refused(why))
}

/// Codecs that a path may have, and retransmission.
const CODECS: [&str; 3] = ["H264", "opus", "rtx"];
/// Lines about one payload type.
const OF_FORMATS: [&str; 3] = ["a=rtpmap:", "a=fmtp:", "a=rtcp-fb:"];
/// What a browser that only watches says of itself, and what nobody needs: requests of ICE go only
/// to where some came from.
const UNREAD: [&str; 6] =
    ["a=candidate:", "a=ssrc", "a=msid", "a=end-of-candidates", "a=simulcast", "a=rid"];
/// `m=video`, the port and the protocol.
const WORDS_BEFORE_FORMATS: usize = 3;
/// Lines of an offer: those of browsers have four hundred.
const LINES_MAX: usize = 1_024;
/// Sections (`m=`) of an offer: a browser that only watches has two.
const SECTIONS_MAX: usize = 8;
/// Payload types of a section: there are no more numbers.
const OFFERED_MAX: usize = 128;
/// Of codecs that may be sent: browsers have a dozen of H.264 and as many retransmissions.
const FORMATS_MAX: usize = 32;
/// Lines that are left: those of browsers have a hundred and fifty.
const KEPT_MAX: usize = 384;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINES: &str = "m=(audio|video) 9 X( [0-9]{1,3}){0,5}|\\PC{0,20}|\
        a=(rtpmap|fmtp|rtcp-fb|candidate|mid):[0-9]{1,3} (H264|opus|VP8)/1";
    const HEAD: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n";

    fn why(sdp: &str) -> String {
        reduced(sdp).unwrap_err().to_string()
    }

    #[test]
    fn codecs_that_no_path_has_and_candidates_are_left_out() {
        let offer = format!(
            "{HEAD}a=group:BUNDLE 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 97 103 104\r\n\
             c=IN IP4 0.0.0.0\r\na=candidate:1 1 udp 1 192.0.2.1 5 typ host\r\na=mid:0\r\n\
             a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\na=rtpmap:97 rtx/90000\r\n\
             a=fmtp:97 apt=96\r\na=rtcp-fb:* nack pli\r\na=rtpmap:103 h264/90000\r\n\
             a=fmtp:103 packetization-mode=1\r\na=ssrc:1 cname:x\r\n\
             m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=rtpmap:0 PCMU/8000\r\n"
        );
        let expected = format!(
            "{HEAD}a=group:BUNDLE 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 97 103\r\n\
             c=IN IP4 0.0.0.0\r\na=mid:0\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
             a=rtcp-fb:* nack pli\r\na=rtpmap:103 h264/90000\r\n\
             a=fmtp:103 packetization-mode=1\r\n\
             m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=rtpmap:0 PCMU/8000\r\n"
        );
        assert_eq!(reduced(&offer).unwrap(), expected);
    }

    #[test]
    fn offers_with_more_than_offers_have_are_refused_unread() {
        let m = |formats: std::ops::Range<u32>| {
            let formats: Vec<String> = formats.map(|format| format.to_string()).collect();
            format!("m=video 9 UDP/TLS/RTP/SAVPF {}\r\n", formats.join(" "))
        };
        let map = |format: u32| format!("a=rtpmap:{format} H264/90000\r\n");
        let maps = |formats: std::ops::Range<u32>| formats.map(map).collect::<String>();
        for (offer, part) in [
            ("a=x\r\n".repeat(6_000), "1024 lines"),
            (format!("{HEAD}{}", m(0..1).repeat(9)), "8 sections"),
            (format!("{HEAD}{}", m(0..7_000)), "128 payload types"),
            (format!("{HEAD}{}{}", m(0..33), maps(0..33)), "32 payload types of"),
            (format!("{HEAD}{}{}", m(0..32), maps(0..32).repeat(13)), "384 lines"),
            (format!("{HEAD}{}{}", m(0..1), "a=extmap:1 x\r\n".repeat(900)), "384 lines"),
        ] {
            assert!(offer.len() <= 40 << 10, "{part}: {}", offer.len());
            assert!(why(&offer).contains(part), "{part}: {}", why(&offer));
        }
        assert!(why("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n").contains("neither"));
    }

    proptest! {
        #[test]
        fn any_text_is_reduced_or_refused_and_what_is_left_stays_as_it_is(
            lines in prop::collection::vec(LINES, 0..40),
        ) {
            if let Ok(left) = reduced(&lines.join("\r\n")) {
                prop_assert!(left.lines().count() <= lines.len().min(KEPT_MAX));
                prop_assert_eq!(reduced(&left), Ok(left));
            }
        }
    }
}
