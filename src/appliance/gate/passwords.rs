//! Passwords of users, compared with their hashes.
//!
//! A right one is remembered for `VERIFIED_FOR`, by a keyed hash of name, password and the hash
//! that it was compared with: a thousand players with one password cost one Argon2. Wrong ones are
//! not remembered. Bounds: `VERIFIED_MAX`; `HASHES_AT_ONCE`.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::Rng;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::cache::Cache;
use crate::access::DigestAlgorithm;
use crate::access::password::{OF_NOBODY, verify};
use crate::base::secret::Secret;
use crate::config::access::{REALM, User};

/// What compares.
#[derive(Debug)]
pub(super) struct Passwords {
    /// Of the keyed hash: another one for each process.
    key: [u8; 32],
    verified: Mutex<Cache<()>>,
    turns: Semaphore,
}

impl Default for Passwords {
    fn default() -> Self {
        let mut key = [0; 32];
        rand::rng().fill_bytes(&mut key);
        let verified = Mutex::new(Cache::new(VERIFIED_MAX));
        Self { key, verified, turns: Semaphore::new(HASHES_AT_ONCE) }
    }
}

impl Passwords {
    /// Whether it is the password of the user; a user that is not there takes as long as one that
    /// is. `None`: it cannot be said.
    pub(super) async fn check(
        &self,
        name: &str,
        password: &Secret,
        user: Option<&User>,
    ) -> Option<bool> {
        if let Some(User { password: None, digest_sha256: Some(hash), .. }) = user {
            let own = DigestAlgorithm::Sha256.ha1(name, REALM, password.expose());
            return Some(is_same(&own, hash.expose()));
        }
        let hash = user.and_then(|user| user.password.clone());
        let is_known = hash.is_some();
        let hash = hash.unwrap_or_else(|| Secret::new(OF_NOBODY));
        let key = self.key_of(name, password, &hash);
        if is_known && self.verified().find(&key, Instant::now()).is_some() {
            return Some(true);
        }
        let turn = self.turns.acquire().await.ok()?;
        let password = password.clone();
        let verified = spawn_blocking(move || verify(password.expose(), hash.expose())).await;
        drop(turn);
        let is_right = verified.ok()? && is_known;
        if is_right {
            self.verified().keep(key, (), Instant::now(), VERIFIED_FOR);
        }
        Some(is_right)
    }

    fn verified(&self) -> std::sync::MutexGuard<'_, Cache<()>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key_of(&self, name: &str, password: &Secret, hash: &Secret) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        for part in [name, password.expose(), hash.expose()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        *hasher.finalize().as_bytes()
    }
}

/// In a time that does not tell where they differ.
fn is_same(a: &str, b: &str) -> bool {
    // `Hash` compares in constant time.
    blake3::hash(a.as_bytes()) == blake3::hash(b.as_bytes())
}

/// Each takes 19 MiB and a CPU for some 20 ms: two leave CPUs and memory to players.
const HASHES_AT_ONCE: usize = 2;
const VERIFIED_MAX: usize = 4_096;
const VERIFIED_FOR: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::password::hash;

    fn check(passwords: &Passwords, password: &str, user: Option<&User>) -> Option<bool> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(passwords.check("ann", &Secret::new(password), user))
    }

    #[test]
    fn right_password_is_remembered_and_no_other_is_let_in() {
        let hashes = hash("ann", "s3cret", [1; 16]).unwrap();
        let by_argon2 = User { password: Some(Secret::new(hashes.password)), ..User::default() };
        let by_digest = User {
            digest_sha256: Some(Secret::new(hashes.digest_sha256)),
            digest_md5: Some(Secret::new(hashes.digest_md5)),
            ..User::default()
        };
        let passwords = Passwords::default();
        for user in [&by_argon2, &by_digest] {
            for _ in 0..2 {
                assert_eq!(check(&passwords, "s3cret", Some(user)), Some(true));
                assert_eq!(check(&passwords, "S3cret", Some(user)), Some(false));
            }
        }
        let other = hash("ann", "s3cret", [2; 16]).unwrap().password;
        let changed = User { password: Some(Secret::new(other)), ..User::default() };
        assert_eq!(check(&passwords, "s3cret", Some(&changed)), Some(true), "found out anew");
        assert_eq!(check(&passwords, "s3cret", None), Some(false));
        assert!(!format!("{passwords:?}").contains("s3cret"));
    }
}
