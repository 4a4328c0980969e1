//! A session of one UDP track against a scripted server: which end of a title is compared when.

use super::*;
use rtcp_types::{Bye, Compound, RtcpPacketWriterExt, SenderReport};
use rtp_types::RtpPacketBuilder;

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\na=control:*\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:trackID=0\r\n";

fn at(milliseconds: u64) -> Mono {
    Mono::from_ns(1_000_000_000).after(Duration::from_millis(milliseconds))
}

struct Script {
    session: Session,
    stats: Stats,
    cseq: u32,
}

impl Script {
    fn playing() -> Self {
        Self::playing_as(Plan::default())
    }

    fn playing_as(plan: Plan) -> Self {
        let url = Url::parse("rtsp://h/a").expect("url");
        let session = Session::new(url, plan);
        let mut script = Self { session, stats: Stats::default(), cseq: 0 };
        script.session.handle_connected(at(0), &mut script.stats);
        script.answer("", "");
        script.answer("", SDP);
        script.session.handle_ports(&[(5_000, 5_001)], at(0));
        script.answer("Session: s\r\nTransport: RTP/AVP;unicast;server_port=8-9\r\n", "");
        script.answer("RTP-Info: url=rtsp://h/a/trackID=0;seq=0\r\n", "");
        assert!(!script.session.is_setting_up());
        script
    }

    fn answer(&mut self, headers: &str, body: &str) {
        self.cseq += 1;
        let (cseq, length) = (self.cseq, body.len());
        let text = format!(
            "RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        );
        self.session.handle_tcp(text.as_bytes(), at(0), &mut self.stats);
    }

    fn packets(&mut self, numbers: std::ops::Range<u16>, now: Mono) {
        for number in numbers {
            let packet = RtpPacketBuilder::<&[u8], &[u8]>::new()
                .payload_type(96)
                .ssrc(1)
                .sequence_number(number)
                .payload(b"media".as_slice())
                .write_vec()
                .expect("packet");
            self.session.handle_rtp(0, &packet, now, &mut self.stats);
        }
    }

    fn bye(&mut self, packet_count: u32, now: Mono) {
        let mut bytes = [0; 128];
        let length = Compound::builder()
            .add_packet(SenderReport::builder(1).packet_count(packet_count))
            .add_packet(Bye::builder().add_source(1))
            .write_into(&mut bytes)
            .expect("fits");
        self.session.handle_rtcp(0, &bytes[..length], now);
    }

    fn time(&mut self, now: Mono) {
        self.session.handle_time(now, &mut self.stats);
    }

    fn stop(&mut self, now: Mono) {
        self.session.stop(now, &mut self.stats);
    }

    /// Answers TEARDOWN; packets, lost, lost at the end, ended by the server.
    fn figures(&mut self) -> (u64, u64, u64, u64) {
        self.answer("", "");
        assert!(self.session.is_over());
        let total = self.stats.total();
        (total.packets, total.lost, total.lost_at_end, self.stats.ended_by_server)
    }
}

#[test]
fn bye_and_packets_behind_teardown_are_neither_loss_nor_counted() {
    let mut script = Script::playing();
    script.packets(0..10, at(10));
    script.stop(at(20));
    script.bye(15, at(21));
    script.packets(10..12, at(21));
    assert!(!script.session.has_unread_tail(at(900)));
    assert_eq!(script.figures(), (10, 0, 0, 0));
}

#[test]
fn bye_read_before_the_packets_ahead_of_it_is_no_loss() {
    let mut script = Script::playing();
    script.packets(0..10, at(10));
    script.bye(15, at(20));
    assert!(!script.session.has_unread_tail(at(219)));
    script.time(at(220));
    assert!(script.session.has_unread_tail(at(220)), "waits for the tail, does not leave");
    script.packets(10..15, at(20));
    script.session.handle_tail_read(at(220));
    script.time(at(220));
    assert_eq!(script.figures(), (15, 0, 0, 1));
}

#[test]
fn tail_that_is_missing_when_all_is_read_is_lost() {
    let mut script = Script::playing();
    script.packets(0..10, at(10));
    script.bye(12, at(20));
    script.session.handle_tail_read(at(220));
    script.time(at(220));
    assert_eq!(script.figures(), (10, 2, 2, 1));
}

#[test]
fn title_that_ends_as_the_run_stops_is_seen_to_its_end() {
    let mut script = Script::playing();
    script.packets(0..10, at(10));
    script.bye(15, at(20));
    script.stop(at(21));
    script.packets(10..14, at(22));
    script.session.handle_tail_read(at(220));
    script.time(at(220));
    assert_eq!(script.figures(), (14, 1, 1, 1));
}

#[test]
fn tail_that_cannot_be_read_to_its_end_is_given_up_and_not_called_lost() {
    let mut script = Script::playing();
    script.packets(0..10, at(10));
    script.bye(15, at(20));
    script.time(at(5_020));
    assert_eq!(script.figures(), (10, 0, 0, 1));
}

impl Script {
    fn sent(&mut self) -> Vec<String> {
        let bytes = std::mem::take(self.session.out());
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let lines = text.lines().filter(|line| line.ends_with("RTSP/1.0"));
        lines.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
    }
}

fn plan_with(script: &str) -> Plan {
    Plan { script: Some(Arc::new(script.parse().expect("script"))), ..Plan::default() }
}

#[test]
fn scripted_pause_and_seek_are_timed_and_not_judged_as_silence() {
    let mut script = Script::playing_as(plan_with("play 1s; pause 60s; seek 4s"));
    script.sent();
    script.packets(0..10, at(10));
    script.time(at(0));
    script.time(at(1_000));
    assert_eq!(script.sent(), ["PAUSE"]);
    script.answer("", "");
    script.time(at(30_000));
    assert_eq!(script.sent(), ["OPTIONS"], "keep-alive");
    script.cseq += 1;
    // Answers come at 0 ms in this test, so the wait begins with the next look at the time.
    script.time(at(91_000));
    assert_eq!(script.sent(), ["PLAY"]);
    script.packets(10..12, at(91_050));
    script.answer("RTP-Info: url=rtsp://h/a/trackID=0;seq=10\r\n", "");
    let acts = script.stats.acts;
    assert_eq!((acts.pauses, acts.seeks, acts.resumes), (1, 1, 0));
    assert_eq!(script.stats.again_packet.summary().count, 1);
}

#[test]
fn stalled_reader_that_is_hung_up_on_is_no_failure() {
    let wait = Duration::from_secs(1);
    let mut script = Script::playing_as(Plan { stall_after: Some(wait), ..Plan::default() });
    script.packets(0..10, at(10));
    script.time(at(999));
    assert!(script.session.is_reading());
    script.time(at(1_000));
    assert!(!script.session.is_reading());
    script.time(at(60_000));
    script.session.handle_closed(Failure::Closed, at(61_000), &mut script.stats);
    let stats = &script.stats;
    assert_eq!((stats.stalled, stats.stalled_closed, stats.failed, stats.completed), (1, 1, 0, 1));
}

#[test]
fn stalled_reader_reads_again_to_leave() {
    let wait = Duration::from_secs(1);
    let mut script = Script::playing_as(Plan { stall_after: Some(wait), ..Plan::default() });
    script.packets(0..10, at(10));
    script.time(at(1_000));
    script.stop(at(9_000));
    assert!(script.session.is_reading());
    assert_eq!(script.figures(), (10, 0, 0, 0));
    assert_eq!(script.stats.total().overdue_frames, 0);
}

#[test]
fn session_still_in_setup_when_interrupted_is_cancelled() {
    let url = Url::parse("rtsp://h/a").expect("url");
    let mut session = Session::new(url, Plan::default());
    let mut stats = Stats::default();
    stats.is_interrupted = true;
    session.handle_connected(at(0), &mut stats);
    session.stop(at(1), &mut stats);
    assert!(session.is_over());
    assert_eq!((stats.cancelled, stats.failed, stats.completed), (1, 0, 0));
}

#[test]
fn reports_come_at_intervals_of_the_standard_and_never_in_step() {
    let mut script = Script::playing();
    script.packets(0..10, at(10));
    let mut times = Vec::new();
    for tenth in 0..600 {
        let now = at(tenth * 100);
        while script.session.poll_report(now, &mut script.stats).is_some() {
            times.push(tenth);
        }
    }
    let first = times[0];
    assert!((10..=31).contains(&first), "half the minimum first: {times:?}");
    let steps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(steps.iter().all(|step| (20..=62).contains(step)), "{steps:?}");
    assert!(steps.iter().any(|step| *step != steps[0]), "{steps:?}");
}
