//! Steady sending and receiving through the ring allocates nothing on the shard's thread
//! (DESIGN section 10: allocations per packet in steady state: 0).
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;

use headend::base::time::Npt;
use headend::library::title::{FileIdentity, Title};
use headend::mapped::MappedFile;
use headend::media::asset::Asset;
use headend::media::window::{Frame, PacketWindow, WindowBuilder};
use headend::shard::ring::{Completion, FileSlot, Ring, RingConfig, RingError};

use crate::allocations::of_this_thread;

struct Fixture {
    ring: Ring,
    udp: FileSlot,
    connection: FileSlot,
    player: UdpSocket,
    reports_to: std::net::SocketAddr,
    client: TcpStream,
    window: Arc<PacketWindow>,
    title: Arc<Title>,
}

#[test]
fn steady_turns_allocate_nothing() {
    let _machine = crate::to_itself();
    let config = RingConfig { files_max: 16, run_slots: 64, ..RingConfig::default() };
    let ring = match Ring::new(&config) {
        Ok(ring) => ring,
        Err(error @ RingError::Unavailable { .. }) => {
            println!("skipped: {error}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let mut fixture = fixture(ring);
    for _ in 0..20 {
        fixture.turn();
    }
    let before = of_this_thread();
    assert!(before > 0, "the first turns allocate: they are counted");
    for _ in 0..200 {
        fixture.turn();
    }
    assert_eq!(of_this_thread() - before, 0);
}

impl Fixture {
    /// Two frames out, over UDP and TCP, a reply, a request and two reports in.
    fn turn(&mut self) {
        let Self { ring, udp, connection, player, client, window, title, .. } = self;
        let to = player.local_addr().unwrap();
        let packets = window.packets(&window.frames()[0]);
        for part in packets.chunks(10) {
            let mut run = ring.start_run(*udp, to, 1).unwrap();
            for packet in part {
                assert!(run.try_packet(&[0x80; 12], window, packet, title).unwrap());
            }
            run.submit(true);
        }
        assert!(ring.send_datagram(*udp, to, &[0x81; 40], 1));
        let mut send = ring.start_stream_send(*connection, 2).unwrap();
        assert!(send.push_bytes(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n"));
        for packet in packets {
            assert!(send.push_packet(0, &[0x80; 12], window, packet, title).unwrap());
        }
        let mut unread = send.bytes();
        send.submit();
        ring.arm_receive(*connection, 3);
        client.write_all(b"GET_PARAMETER * RTSP/1.0\r\nCSeq: 1\r\n\r\n").unwrap();
        for _ in 0..2 {
            player.send_to(&[0x81; 32], self.reports_to).unwrap();
        }
        let mut buffer = [0; 4_096];
        ring.enter(Some(0)).unwrap();
        while unread > 0 {
            unread -= client.read(&mut buffer).unwrap();
        }
        for _ in 0..=packets.len() {
            assert!(player.recv(&mut buffer).unwrap() > 0);
        }
        self.reap(2 + 4);
    }

    /// Takes `count` completions: two runs, a stream send, a request, two reports.
    fn reap(&mut self, mut count: usize) {
        for _ in 0..1_000 {
            while let Some(completion) = self.ring.next_completion() {
                match completion {
                    Completion::RunSent { result, .. } => result.unwrap(),
                    Completion::StreamSent { result, .. } => assert!(result.is_ok()),
                    Completion::Received { result, .. } => assert!(!result.unwrap().is_empty()),
                    Completion::Datagram { bytes, .. } => assert_eq!(bytes.len(), 32),
                    other => panic!("{other:?}"),
                }
                count -= 1;
            }
            if count == 0 {
                return;
            }
            self.ring.enter(Some(10_000_000)).unwrap();
        }
        panic!("{count} completions are missing");
    }
}

fn fixture(mut ring: Ring) -> Fixture {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let server = listener.accept().unwrap().0;
    let connection = ring.install(server.into()).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let reports_to = socket.local_addr().unwrap();
    let udp = ring.install(socket.into()).unwrap();
    ring.arm_datagrams(udp, 4);
    let player = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (window, title) = film();
    Fixture { ring, udp, connection, player, reports_to, client, window, title }
}

/// One frame of twenty packets.
fn film() -> (Arc<PacketWindow>, Arc<Title>) {
    let mut builder = WindowBuilder::new();
    for packet in 0..20 {
        builder.push_inline(&[0x7c, 0x05]);
        builder.push_file(packet * 1_000, 1_000);
        builder.end_packet(packet == 19);
    }
    builder.end_frame(Frame {
        due: Npt::ZERO,
        npt: Npt::ZERO,
        rtp_ticks: 0,
        sample_index: 0,
        packet_index: 0,
        packet_count: 0,
        is_sync: true,
        is_disposable: false,
    });
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[0x55; 20_000]).unwrap();
    let asset = Asset {
        tracks: Vec::new(),
        left_out: Vec::new(),
        duration: Npt::ZERO,
        container: "mp4",
        file_bytes: 20_000,
        created_utc_ns: None,
        problems: Vec::new(),
    };
    let title = Title {
        wire: headend::rtp::WireBase::new(1),
        name: "film.mp4".to_owned(),
        url_path: "vod/title.mp4".into(),
        asset,
        map: MappedFile::new(&file).unwrap(),
        identity: FileIdentity { device: 0, inode: 0, bytes: 20_000, modified_ns: 0 },
        file,
    };
    (Arc::new(builder.finish()), Arc::new(title))
}
