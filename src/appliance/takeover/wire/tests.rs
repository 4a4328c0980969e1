//! Messages over a pair of sockets: whole, cut at each byte, slow, and too large.

use super::*;
use std::io::Read as _;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// What is in the socket is read, and nothing is waited for.
fn at_once() -> Instant {
    Instant::now() + Duration::from_millis(5)
}

fn pair() -> (Wire, Wire) {
    let (a, b) = UnixStream::pair().unwrap();
    (Wire::new(a), Wire::new(b))
}

fn bytes_of(message: &ToOld) -> Vec<u8> {
    let body = serde_json::to_vec(message).unwrap();
    let head = Head { bytes: u32::try_from(body.len()).unwrap(), descriptors: 0, is_apart: false };
    [&head.to_bytes()[..], &body].concat()
}

/// Receives until the message is there, and counts how often it was late.
fn receive_patiently(to: &mut Wire) -> (ToNew, Vec<OwnedFd>) {
    let mut result = to.receive(soon());
    while matches!(result, Err(WireError::Late)) {
        result = to.receive(soon());
    }
    result.unwrap()
}

#[test]
fn message_comes_with_as_many_descriptors_as_were_sent_in_their_order() {
    let (mut from, mut to) = pair();
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<File> = (0..450)
        .map(|number: u32| {
            let path = folder.path().join(number.to_string());
            std::fs::write(&path, number.to_string()).unwrap();
            File::open(path).unwrap()
        })
        .collect();
    let sender = std::thread::spawn(move || {
        let borrowed: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
        from.send(&ToNew::Frozen, &borrowed, soon()).unwrap();
        from.send(&ToNew::Refused { why: String::new() }, &[], soon()).unwrap();
        from
    });
    let (message, files) = receive_patiently(&mut to);
    assert_eq!((message, files.len()), (ToNew::Frozen, 450));
    for (number, file) in files.into_iter().enumerate() {
        let mut text = String::new();
        File::from(file).read_to_string(&mut text).unwrap();
        assert_eq!(text, number.to_string());
    }
    let (message, files) = receive_patiently(&mut to);
    assert_eq!((message, files.len()), (ToNew::Refused { why: String::new() }, 0));
    drop(sender.join().unwrap());
    assert!(matches!(to.receive::<ToNew>(soon()), Err(WireError::Ended)));
}

/// The old process once read the head of `Taken`, was late, and read the rest as a head: both
/// processes went on.
#[test]
fn message_that_is_cut_at_any_byte_by_a_deadline_is_whole_when_the_rest_comes() {
    for message in [ToOld::Taken, ToOld::Refused { why: "no".to_owned() }] {
        let bytes = bytes_of(&message);
        for cut in 0..=bytes.len() {
            let (mut from, mut to) = pair();
            from.stream.write_all(&bytes[..cut]).unwrap();
            if cut < bytes.len() {
                assert!(matches!(to.receive::<ToOld>(at_once()), Err(WireError::Late)), "{cut}");
            }
            from.stream.write_all(&bytes[cut..]).unwrap();
            drop(from);
            assert_eq!(to.receive::<ToOld>(soon()).unwrap().0, message, "cut at byte {cut}");
            assert!(matches!(to.receive::<ToOld>(soon()), Err(WireError::Ended)), "{cut}");
        }
    }
}

#[test]
fn message_that_is_cut_for_good_has_not_come_at_whatever_byte() {
    let bytes = bytes_of(&ToOld::Taken);
    for cut in 0..bytes.len() {
        let (mut from, mut to) = pair();
        from.stream.write_all(&bytes[..cut]).unwrap();
        assert!(matches!(to.receive::<ToOld>(at_once()), Err(WireError::Late)));
        drop(from);
        assert!(matches!(to.receive::<ToOld>(soon()), Err(WireError::Ended)), "{cut}");
    }
}

#[test]
fn what_is_no_message_or_does_not_come_is_told() {
    let (mut from, mut to) = pair();
    assert!(matches!(to.receive::<ToOld>(at_once()), Err(WireError::Late)));
    from.stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(matches!(to.receive::<ToOld>(soon()), Err(WireError::Unreadable(_))));
    assert!(matches!(to.receive::<ToOld>(soon()), Err(WireError::Unreadable(_))), "for good");
}

/// A deadline of each call alone let a peer that reads a byte now and then hold the server for
/// ever.
#[test]
fn peer_that_reads_a_little_now_and_then_does_not_prolong_the_deadline() {
    let (mut from, to) = pair();
    rustix::net::sockopt::set_socket_send_buffer_size(&from.stream, 4_096).unwrap();
    let large = ToNew::Refused { why: "x".repeat(APART_BYTES - 100) };
    let trickling = std::thread::spawn(move || {
        let mut to = to;
        let mut some = [0; 512];
        // Ends when the other end is dropped.
        while to.stream.read(&mut some).is_ok_and(|read| read > 0) {
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let within = Duration::from_millis(200);
    let sent = from.send(&large, &[], Instant::now() + within);
    assert!(matches!(sent, Err(WireError::Late)), "{sent:?}");
    let again = from.send(&ToNew::Frozen, &[], soon());
    assert!(matches!(again, Err(WireError::Late)), "it would be read as a part of the other one");
    drop(from);
    trickling.join().unwrap();
}

#[test]
fn new_process_may_say_little_and_send_one_descriptor() {
    let head = |bytes, descriptors| Head { bytes, descriptors, is_apart: false }.to_bytes();
    for (head, is_fine) in [
        (Head { bytes: 2, descriptors: 0, is_apart: true }.to_bytes(), false),
        (head(2, 1), true),
        (head(2, 2), false),
        (head((64 << 10) + 1, 0), false),
        (head(MESSAGE_BYTES_MAX, 0), false),
        (head(64 << 10, 0), true),
    ] {
        let (mut from, mut to) = pair();
        from.stream.write_all(&head).unwrap();
        let result = to.receive::<ToOld>(at_once());
        assert_eq!(matches!(result, Err(WireError::Late)), is_fine, "{result:?}");
    }
}

#[test]
fn memory_grows_with_what_has_come_and_not_with_what_a_head_says() {
    let (mut from, mut to) = pair();
    let head = Head { bytes: MESSAGE_BYTES_MAX, descriptors: 0, is_apart: false };
    from.stream.write_all(&head.to_bytes()).unwrap();
    from.stream.write_all(b"{").unwrap();
    // A machine that is busy may have the deadline pass before the second read.
    for _ in 0..100 {
        assert!(matches!(to.receive::<ToNew>(at_once()), Err(WireError::Late)));
        if !to.partial.body.is_empty() {
            break;
        }
    }
    assert!(to.partial.body.capacity() <= 4 * READ_BYTES_MAX);
    assert_eq!(to.partial.body, b"{");
}

#[test]
fn long_message_stands_in_a_file_and_its_descriptors_are_those_that_were_sent() {
    let (mut from, mut to) = pair();
    let files: Vec<File> = (0..201).map(|_| tempfile::tempfile().unwrap()).collect();
    for (number, file) in files.iter().enumerate() {
        file.set_len(number as u64).unwrap();
    }
    let files: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
    for bytes in [APART_BYTES / 2, 3 << 20] {
        let long = ToNew::Refused { why: "x".repeat(bytes) };
        // The socket has room for all that is left to go through it.
        from.send(&long, &files, soon()).unwrap();
        let (message, received) = to.receive::<ToNew>(soon()).unwrap();
        assert!(message == long && received.len() == files.len());
        for (number, file) in received.into_iter().enumerate() {
            assert_eq!(File::from(file).metadata().unwrap().len(), number as u64);
        }
    }
}

#[test]
fn file_that_is_shorter_than_it_is_said_to_be_is_refused() {
    let (mut from, mut to) = pair();
    let file = in_file(b"{}").unwrap();
    let head = Head { bytes: 3, descriptors: 0, is_apart: true };
    from.stream.write_all(&head.to_bytes()).unwrap();
    from.send_piece(&[file.as_fd()], soon()).unwrap();
    assert!(matches!(to.receive::<ToNew>(soon()), Err(WireError::Unreadable(_))));
}

#[test]
fn other_end_is_known_by_its_user_and_number() {
    let (own, _its) = UnixStream::pair().unwrap();
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let user = rustix::process::geteuid().as_raw();
    assert_eq!(Wire::new(own).peer().unwrap(), Peer { user, pid });
}

#[test]
fn descriptors_wait_until_some_that_are_on_their_way_have_come() {
    let (own, _its) = UnixStream::pair().unwrap();
    let wire = Wire::new(own);
    let mut calls = 0;
    let sent = wire.write(Instant::now() + Duration::from_secs(10), |_| {
        calls += 1;
        if calls < 3 { Err(rustix::io::Errno::TOOMANYREFS) } else { Ok(calls) }
    });
    assert_eq!(sent.unwrap(), 3);
    let late = wire.write(Instant::now() + Duration::from_millis(5), |_| {
        Err::<(), _>(rustix::io::Errno::TOOMANYREFS)
    });
    assert!(matches!(late, Err(WireError::Late)), "{late:?}");
}
