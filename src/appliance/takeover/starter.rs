//! The program that has started this one in the background: it ends when this one serves.
//!
//! ```text
//!  headend serve --takeover --background     its child: the same words without --background
//!    waits at a socket <----- a byte ---------- stdin: it serves; closed: its exit code
//! ```
//! A service manager runs a command for a reload, and waits for its end (`ExecReload=`). Which
//! process serves then the child says itself. When the command ends before, the reload has failed,
//! so the child does not take over any more.

use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::SendFlags;

/// The other end of the socket of a program that waits.
#[derive(Debug)]
pub struct Starter(OwnedFd);

impl Starter {
    /// Takes the socket, which is the standard input, and puts nothing in its place.
    ///
    /// # Errors
    /// As the system says.
    pub fn from_stdin() -> io::Result<Self> {
        let socket = rustix::stdio::stdin().try_clone_to_owned()?;
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        Ok(Self(socket))
    }

    /// Whether the other program has ended: it was stopped, or its time was over.
    pub(in crate::appliance) fn is_gone(&self) -> bool {
        let mut polled = [PollFd::new(&self.0, PollFlags::empty())];
        let _interrupted = rustix::event::poll(&mut polled, Some(&Timespec::default()));
        polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }

    /// This process serves, and the service manager knows: the other one ends.
    pub(in crate::appliance) fn tell(self) {
        // It fails where that has ended already.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let _gone = rustix::net::send(&self.0, b"1", flags);
    }
}

/// Starts a program in the background, and waits until it serves or ends. Returns its exit code;
/// `None`: it serves.
///
/// # Errors
/// The system does not start it.
pub fn start_in_background(command: &mut Command) -> io::Result<Option<i32>> {
    let (mut own, its) = UnixStream::pair()?;
    let mut child: Child = command.stdin(Stdio::from(OwnedFd::from(its))).spawn()?;
    // The command has the other end, too.
    command.stdin(Stdio::null());
    let serves = own.read(&mut [0]).is_ok_and(|read| read > 0);
    if serves {
        return Ok(None);
    }
    Ok(Some(child.wait()?.code().unwrap_or(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn program_that_serves_is_left_alone_and_the_exit_code_of_one_that_ends_is_told() {
        let serves = start_in_background(&mut shell("printf 1 >&0; exec sleep 0.2")).unwrap();
        assert_eq!(serves, None);
        assert_eq!(start_in_background(&mut shell("exit 2")).unwrap(), Some(2));
        assert_eq!(start_in_background(&mut shell("kill -9 $$")).unwrap(), Some(1));
    }

    #[test]
    fn program_that_waits_is_there_until_it_ends() {
        let (own, its) = UnixStream::pair().unwrap();
        let starter = Starter(its.into());
        assert!(!starter.is_gone());
        drop(own);
        assert!(starter.is_gone());
        starter.tell();
    }
}
