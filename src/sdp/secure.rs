//! A description whose media is encrypted: SAVP in place of AVP, and the keys of each media.
//!
//! ```text
//!  m=video 0 RTP/AVP 96        m=video 0 RTP/SAVP 96
//!  c=..                    --> c=..
//!  a=rtpmap:96 H264/90000      a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:..
//!                              a=key-mgmt:mikey AQAF..
//!                              a=rtpmap:96 H264/90000
//! ```
//! Both kinds of keys are the same key: FFmpeg reads the one, GStreamer and live555 the other.
//! Bound: two lines for each media.

/// The lines of a media's keys, without `a=` and line ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyLines(pub [String; 2]);

/// The description with the keys of its medias; `keys_of` is asked in their order. A media that is
/// not RTP stays as it is.
#[must_use]
pub fn with_keys(text: &str, mut keys_of: impl FnMut(usize) -> KeyLines) -> String {
    let mut out = String::with_capacity(text.len() + 512);
    let (mut pending, mut count): (Option<KeyLines>, usize) = (None, 0);
    for line in text.split_inclusive('\n') {
        if line.starts_with("m=") || line.starts_with("a=") {
            push(&mut out, pending.take());
        }
        match line.starts_with("m=").then(|| secure_media(line)).flatten() {
            Some(secure) => {
                out.push_str(&secure);
                pending = Some(keys_of(count));
            }
            None => out.push_str(line),
        }
        count += usize::from(line.starts_with("m="));
    }
    push(&mut out, pending);
    out
}

fn push(out: &mut String, lines: Option<KeyLines>) {
    let Some(KeyLines(lines)) = lines else { return };
    if !out.ends_with('\n') {
        out.push_str("\r\n");
    }
    for line in lines {
        out.push_str("a=");
        out.push_str(&line);
        out.push_str("\r\n");
    }
}

/// An `m=` line with the profile for encryption; `None` when there is none.
fn secure_media(line: &str) -> Option<String> {
    let (front, protocol_and_rest) = line.match_indices(' ').nth(1).map(|(at, _)| {
        let (front, rest) = line.split_at(at + 1);
        (front, rest)
    })?;
    let (protocol, rest) = protocol_and_rest.split_once(' ')?;
    let secure = match protocol {
        "RTP/AVP" => "RTP/SAVP",
        "RTP/AVPF" => "RTP/SAVPF",
        _ => return None,
    };
    Some(format!("{front}{secure} {rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(index: usize) -> KeyLines {
        KeyLines([format!("crypto:{index}"), format!("key-mgmt:mikey {index}")])
    }

    #[test]
    fn keys_stand_before_the_other_attributes_of_their_media() {
        let text = "v=0\r\ns=x\r\na=control:*\r\nm=video 0 RTP/AVP 96\r\nc=IN IP4 0.0.0.0\r\n\
                    a=rtpmap:96 H264/90000\r\nm=audio 0 RTP/AVPF 97 98\r\n\
                    m=application 0 UDP 33\r\na=x\r\nm=audio 0 RTP/AVP 0";
        let expected = "v=0\r\ns=x\r\na=control:*\r\nm=video 0 RTP/SAVP 96\r\n\
                        c=IN IP4 0.0.0.0\r\na=crypto:0\r\na=key-mgmt:mikey 0\r\n\
                        a=rtpmap:96 H264/90000\r\nm=audio 0 RTP/SAVPF 97 98\r\na=crypto:1\r\n\
                        a=key-mgmt:mikey 1\r\nm=application 0 UDP 33\r\na=x\r\n\
                        m=audio 0 RTP/SAVP 0\r\na=crypto:3\r\na=key-mgmt:mikey 3\r\n";
        assert_eq!(with_keys(text, keys), expected);
    }
}
