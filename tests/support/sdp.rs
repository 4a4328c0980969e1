//! The session description as a player reads it (RFC 8866), strict where players are.

/// What DESCRIBE answered.
#[derive(Debug, Clone)]
pub(crate) struct Sdp {
    pub(crate) text: String,
    /// Lines above the first `m=`.
    pub(crate) session: Vec<String>,
    pub(crate) media: Vec<Media>,
}

/// One `m=` section.
#[derive(Debug, Clone)]
pub(crate) struct Media {
    /// `audio` or `video`.
    pub(crate) kind: String,
    pub(crate) payload_type: u8,
    pub(crate) encoding: String,
    pub(crate) clock_rate_hz: u32,
    pub(crate) control: String,
    /// Lines below the `m=`.
    pub(crate) lines: Vec<String>,
}

impl Sdp {
    /// # Panics
    /// When it is not what players can read.
    pub(crate) fn parse(text: &str) -> Self {
        assert!(text.starts_with("v=0\r\n"), "{text}");
        assert!(text.ends_with("\r\n"), "{text}");
        let mut sections: Vec<Vec<String>> = vec![Vec::new()];
        for line in text.split_terminator("\r\n") {
            assert!(line.as_bytes().get(1) == Some(&b'='), "SDP line {line:?}");
            if line.starts_with("m=") {
                sections.push(Vec::new());
            }
            sections.last_mut().unwrap().push(line.to_owned());
        }
        let session = sections.remove(0);
        for wanted in ["o=", "s=", "t="] {
            assert!(session.iter().any(|line| line.starts_with(wanted)), "no {wanted} in {text}");
        }
        let media = sections.iter().map(|lines| Media::parse(lines)).collect();
        Self { text: text.to_owned(), session, media }
    }

    /// Value of the session-level attribute `name`.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        attribute(&self.session, name)
    }

    /// Seconds of `a=range:npt=0-SECONDS`, on session level.
    pub(crate) fn duration_s(&self) -> Option<f64> {
        self.attribute("range")?.strip_prefix("npt=0-")?.parse().ok()
    }
}

impl Media {
    fn parse(lines: &[String]) -> Self {
        let words: Vec<_> = lines[0][2..].split(' ').collect();
        assert_eq!(words[2], "RTP/AVP", "{}", lines[0]);
        let payload_type: u8 = words[3].parse().unwrap();
        // Client rule C5: FFmpeg looks for the rtpmap below its m= line.
        let rtpmap = attribute(lines, "rtpmap").expect("an rtpmap below each m=");
        let (number, name) = rtpmap.split_once(' ').unwrap();
        assert_eq!(number.parse::<u8>().unwrap(), payload_type);
        let mut parts = name.split('/');
        Self {
            kind: words[0].to_owned(),
            payload_type,
            encoding: parts.next().unwrap().to_owned(),
            clock_rate_hz: parts.next().unwrap().parse().unwrap(),
            control: attribute(lines, "control").expect("a control URL").to_owned(),
            lines: lines.to_vec(),
        }
    }

    /// Value of the attribute `name`.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        attribute(&self.lines, name)
    }

    /// Parameter `name` of `a=fmtp`.
    pub(crate) fn fmtp(&self, name: &str) -> Option<&str> {
        let (_, parameters) = self.attribute("fmtp")?.split_once(' ')?;
        parameters
            .split(';')
            .filter_map(|parameter| parameter.trim().split_once('='))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

fn attribute<'a>(lines: &'a [String], name: &str) -> Option<&'a str> {
    lines.iter().find_map(|line| line.strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':'))
}
