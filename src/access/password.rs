//! Hashes of passwords: Argon2id (RFC 9106) in PHC form, and those of Digest.
//!
//! To make or check one takes tens of milliseconds and 19 MiB: never on a shard.

use argon2::{Argon2, PasswordHash, PasswordHasher as _, PasswordVerifier as _};

use super::digest::DigestAlgorithm;
use crate::config::access::REALM;

/// What the configuration keeps of a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashes {
    /// For Basic.
    pub password: String,
    /// For Digest by MD5. Whoever has it can log in by Digest.
    pub digest_md5: String,
    /// For Digest by SHA-256; the same holds for it.
    pub digest_sha256: String,
}

/// A hash cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the password cannot be hashed: it is too long")]
pub struct HashError;

/// Makes all hashes of a password. `salt` is random.
///
/// # Errors
/// [`HashError`]
pub fn hash(user: &str, password: &str, salt: [u8; 16]) -> Result<Hashes, HashError> {
    let hashed = Argon2::default().hash_password_with_salt(password.as_bytes(), &salt);
    Ok(Hashes {
        password: hashed.map_err(|_| HashError)?.to_string(),
        digest_md5: DigestAlgorithm::Md5.ha1(user, REALM, password),
        digest_sha256: DigestAlgorithm::Sha256.ha1(user, REALM, password),
    })
}

/// Whether a password is the one that was hashed. False for a hash that cannot be read.
#[must_use]
pub fn verify(password: &str, hash: &str) -> bool {
    let Ok(hash) = PasswordHash::new(hash) else { return false };
    Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
}

/// A hash of no password, checked for users that are not there: they take the time of others.
pub const OF_NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5bm9ib2R5\
                             $AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::access::User;

    #[test]
    fn hash_is_one_that_the_configuration_takes_and_verifies_its_password_alone() {
        let hashes = hash("ann", "s3cret", [7; 16]).unwrap();
        assert_eq!(User::check_hash(&hashes.password), Ok(()));
        assert!(verify("s3cret", &hashes.password));
        assert!(!verify("s3creT", &hashes.password) && !verify("", &hashes.password));
        assert_eq!(User::check_digest(&hashes.digest_md5, 16), Ok(()));
        assert_eq!(User::check_digest(&hashes.digest_sha256, 32), Ok(()));
        let other = hash("ann", "s3cret", [8; 16]).unwrap();
        assert_ne!(hashes.password, other.password, "the salt is another");
    }

    #[test]
    fn hash_of_nobody_is_one_that_no_password_has() {
        assert_eq!(User::check_hash(OF_NOBODY), Ok(()));
        assert!(PasswordHash::new(OF_NOBODY).is_ok());
        assert!(!verify("", OF_NOBODY) && !verify("x", "x"));
    }
}
