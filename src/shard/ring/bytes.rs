//! Received bytes, copied from a buffer of the kernel into pooled memory.
//!
//! The receive buffer goes back to the kernel at once, so a consumer may keep the copy. Copies are
//! cheap, because RTSP requests and RTCP reports are small.
//!
//! Bound: the pool keeps `SPARE_MAX` vectors; memory of further ones is freed.

use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

/// Received bytes. Their memory goes back to the pool on drop.
pub struct Received {
    bytes: Vec<u8>,
    pool: Rc<BytePool>,
}

impl Deref for Received {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for Received {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Received({} bytes)", self.bytes.len())
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        self.pool.put(std::mem::take(&mut self.bytes));
    }
}

/// Pool of vectors that are not in use.
#[derive(Debug)]
pub(super) struct BytePool {
    spare: RefCell<Vec<Vec<u8>>>,
}

impl BytePool {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self { spare: RefCell::new(Vec::with_capacity(SPARE_MAX)) })
    }

    /// Copies `bytes` into pooled memory.
    pub(super) fn copy(self: &Rc<Self>, bytes: &[u8]) -> Received {
        let mut copy = self.spare.borrow_mut().pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(bytes);
        Received { bytes: copy, pool: Rc::clone(self) }
    }

    fn put(&self, bytes: Vec<u8>) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE_MAX && bytes.capacity() > 0 {
            spare.push(bytes);
        }
    }
}

/// As many as a turn may hold at once in steady state: 64 x 4 KiB = 256 KiB of spare memory.
const SPARE_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_dropped_bytes_is_used_again() {
        let pool = BytePool::new();
        let first = pool.copy(b"OPTIONS * RTSP/1.0");
        let address = first.as_ptr();
        drop(first);
        let second = pool.copy(b"short");
        assert_eq!(&*second, b"short");
        assert_eq!(second.as_ptr(), address);
    }

    #[test]
    fn spare_memory_is_bounded() {
        let pool = BytePool::new();
        let held: Vec<Received> = (0..SPARE_MAX * 2).map(|_| pool.copy(b"x")).collect();
        drop(held);
        assert_eq!(pool.spare.borrow().len(), SPARE_MAX);
    }
}
