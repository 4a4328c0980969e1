//! Ciphers for str0m: DTLS by `dimpl` with the crates of RustCrypto, SRTP by `ring` and `aes`, all
//! of which the program has anyway. The providers that str0m comes with link a second TLS library
//! in C.
//!
//! ```text
//! str0m --DtlsProvider--> dimpl --> p256, x25519, aes-gcm, sha2      handshake
//!       --SrtpProvider--> ring (AES-GCM), aes and ctr (AES-CM)       media
//!       --hashes--------> hmac and sha1 (STUN), sha2 (fingerprints)
//! ```
//! The certificate of all viewers is made by `rcgen` when the process starts: browsers believe it
//! by the fingerprint in the answer, which came by HTTP.

use std::sync::Arc;
use std::time::Instant;

use aes::cipher::{
    BlockCipherEncrypt, InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper,
};
use aes::{Aes128Enc, Aes256Enc};
use ctr::CtrCore;
use ctr::flavors::Ctr128BE;
use hmac::{Hmac, Mac};
use ring::aead::{self, AES_128_GCM, AES_256_GCM, LessSafeKey, MAX_TAG_LEN, Nonce, UnboundKey};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use str0m::config::DtlsCert;
use str0m::crypto::dtls::{
    DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, ProtocolVersion,
};
use str0m::crypto::{
    AeadAes128GcmCipher, AeadAes256GcmCipher, Aes128CmSha1_80Cipher, CryptoError, CryptoProvider,
    Sha1HmacProvider, Sha1Provider, Sha256Provider, SrtpProvider, SupportedAeadAes128Gcm,
    SupportedAeadAes256Gcm, SupportedAes128CmSha1_80,
};

/// Who the server is to browsers, and its ciphers.
#[derive(Debug, Clone)]
pub struct Identity {
    pub(super) certificate: DtlsCert,
    pub(super) provider: Arc<CryptoProvider>,
}

impl Identity {
    /// A certificate with its key (DER, PKCS #8): ECDSA on P-256, which every browser has (RFC 8827
    /// s6.5).
    #[must_use]
    pub fn new(certificate: Vec<u8>, private_key: Vec<u8>) -> Self {
        let certificate = DtlsCert { certificate, private_key };
        Self { certificate, provider: Arc::new(provider()) }
    }
}

fn provider() -> CryptoProvider {
    CryptoProvider {
        srtp_provider: &Srtp,
        sha1_hmac_provider: &Hashes,
        sha1_provider: &Hashes,
        sha256_provider: &Hashes,
        dtls_provider: &Dtls,
    }
}

#[derive(Debug)]
struct Dtls;

#[derive(Debug)]
struct Hashes;

#[derive(Debug)]
struct Srtp;

impl DtlsProvider for Dtls {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        // All viewers get the one that `Config` has.
        None
    }

    fn new_dtls(
        &self,
        cert: &DtlsCert,
        now: Instant,
        version: DtlsVersion,
        mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        // The other side has answered a request of ICE: it is where it says. A cookie would show
        // that again.
        let config = dimpl::Config::builder()
            .with_crypto_provider(dimpl::crypto::rust_crypto::default_provider())
            .use_server_cookie(false);
        let config = mtu.into_iter().fold(config, |config, mtu| config.mtu(mtu));
        let config = config.build().map_err(|error| CryptoError::Other(error.to_string()))?;
        let (config, cert) = (Arc::new(config), cert.clone());
        let dtls = match version {
            DtlsVersion::Dtls12 => dimpl::Dtls::new_12(config, cert, now),
            DtlsVersion::Dtls13 => dimpl::Dtls::new_13(config, cert, now),
            _ => dimpl::Dtls::new_auto(config, cert, now),
        };
        Ok(Box::new(Instance(dtls)))
    }
}

struct Instance(dimpl::Dtls);

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Instance")
    }
}

impl DtlsInstance for Instance {
    fn set_active(&mut self, active: bool) {
        self.0.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.0.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buf: &'a mut [u8]) -> DtlsOutput<'a> {
        self.0.poll_output(buf)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.0.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.0.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.0.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.0.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.0.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.0.close()
    }
}

impl Sha1HmacProvider for Hashes {
    fn sha1_hmac(&self, key: &[u8], payloads: &[&[u8]]) -> [u8; 20] {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mut mac = <Hmac<Sha1> as KeyInit>::new_from_slice(key).expect("HMAC takes this key");
        payloads.iter().for_each(|payload| mac.update(payload));
        mac.finalize().into_bytes().into()
    }
}

impl Sha1Provider for Hashes {
    fn sha1(&self, data: &[u8]) -> [u8; 20] {
        use sha1::Digest as _;
        Sha1::digest(data).into()
    }
}

impl Sha256Provider for Hashes {
    fn sha256(&self, data: &[u8]) -> [u8; 32] {
        Sha256::digest(data).into()
    }
}

impl SrtpProvider for Srtp {
    fn aes_128_cm_sha1_80(&self) -> &'static dyn SupportedAes128CmSha1_80 {
        &Self
    }

    fn aead_aes_128_gcm(&self) -> &'static dyn SupportedAeadAes128Gcm {
        &Self
    }

    fn aead_aes_256_gcm(&self) -> &'static dyn SupportedAeadAes256Gcm {
        &Self
    }

    fn srtp_aes_128_ecb_round(&self, key: &[u8], input: &[u8], output: &mut [u8]) {
        first_block(Aes128Enc::new_from_slice(key), input, output);
    }

    fn srtp_aes_256_ecb_round(&self, key: &[u8], input: &[u8], output: &mut [u8]) {
        first_block(Aes256Enc::new_from_slice(key), input, output);
    }
}

/// Encrypts a block of 16 bytes; what is behind it in `output` is not looked at (RFC 3711 s4.3.3).
fn first_block<C: BlockCipherEncrypt, E: std::fmt::Debug>(
    cipher: Result<C, E>,
    input: &[u8],
    output: &mut [u8],
) {
    #[expect(clippy::expect_used, reason = "str0m has keys of 16 and of 32 bytes")]
    let cipher = cipher.expect("AES takes this key");
    let mut block = aes::cipher::Block::<C>::default();
    block.copy_from_slice(input);
    cipher.encrypt_block(&mut block);
    output[..block.len()].copy_from_slice(&block);
}

impl SupportedAes128CmSha1_80 for Srtp {
    fn create_cipher(&self, key: [u8; 16], _encrypt: bool) -> Box<dyn Aes128CmSha1_80Cipher> {
        Box::new(Cm(Aes128Enc::new(&key.into())))
    }
}

impl SupportedAeadAes128Gcm for Srtp {
    fn create_cipher(&self, key: [u8; 16], _encrypt: bool) -> Box<dyn AeadAes128GcmCipher> {
        Box::new(Gcm::new(&AES_128_GCM, &key))
    }
}

impl SupportedAeadAes256Gcm for Srtp {
    fn create_cipher(&self, key: [u8; 32], _encrypt: bool) -> Box<dyn AeadAes256GcmCipher> {
        Box::new(Gcm::new(&AES_256_GCM, &key))
    }
}

/// AES in counter mode: the same both ways.
struct Cm(Aes128Enc);

impl std::fmt::Debug for Cm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cm")
    }
}

impl Aes128CmSha1_80Cipher for Cm {
    fn encrypt(
        &mut self,
        iv: &[u8; 16],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<(), CryptoError> {
        let output = output.get_mut(..input.len()).ok_or_else(too_short)?;
        output.copy_from_slice(input);
        let core = CtrCore::<_, Ctr128BE>::inner_iv_init(&self.0, iv.into());
        StreamCipherCoreWrapper::from_core(core).apply_keystream(output);
        Ok(())
    }

    fn decrypt(
        &mut self,
        iv: &[u8; 16],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<(), CryptoError> {
        self.encrypt(iv, input, output)
    }
}

/// AES-GCM of either length.
#[derive(Debug)]
struct Gcm(LessSafeKey);

impl Gcm {
    fn new(algorithm: &'static aead::Algorithm, key: &[u8]) -> Self {
        #[expect(clippy::expect_used, reason = "AES takes every key of its length")]
        let key = UnboundKey::new(algorithm, key).expect("AES-GCM takes this key");
        Self(LessSafeKey::new(key))
    }

    fn seal(
        &self,
        iv: &[u8; 12],
        aad: &[u8],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<(), CryptoError> {
        let (sealed, rest) = output.split_at_mut_checked(input.len()).ok_or_else(too_short)?;
        sealed.copy_from_slice(input);
        let nonce = Nonce::assume_unique_for_key(*iv);
        let tag = self.0.seal_in_place_separate_tag(nonce, aead::Aad::from(aad), sealed);
        let tag =
            tag.map_err(|_| CryptoError::Other("AES-GCM does not encrypt this".to_owned()))?;
        rest.get_mut(..MAX_TAG_LEN).ok_or_else(too_short)?.copy_from_slice(tag.as_ref());
        Ok(())
    }

    fn open(
        &self,
        iv: &[u8; 12],
        aads: &[&[u8]],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<usize, CryptoError> {
        let aad = aads.concat();
        let mut opened = input.to_vec();
        let nonce = Nonce::assume_unique_for_key(*iv);
        let plain = self.0.open_in_place(nonce, aead::Aad::from(&aad), &mut opened);
        let plain = plain.map_err(|_| CryptoError::Other("the tag is wrong".to_owned()))?;
        output.get_mut(..plain.len()).ok_or_else(too_short)?.copy_from_slice(plain);
        Ok(plain.len())
    }
}

impl AeadAes128GcmCipher for Gcm {
    fn encrypt(
        &mut self,
        iv: &[u8; 12],
        aad: &[u8],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<(), CryptoError> {
        self.seal(iv, aad, input, output)
    }

    fn decrypt(
        &mut self,
        iv: &[u8; 12],
        aads: &[&[u8]],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<usize, CryptoError> {
        self.open(iv, aads, input, output)
    }
}

impl AeadAes256GcmCipher for Gcm {
    fn encrypt(
        &mut self,
        iv: &[u8; 12],
        aad: &[u8],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<(), CryptoError> {
        self.seal(iv, aad, input, output)
    }

    fn decrypt(
        &mut self,
        iv: &[u8; 12],
        aads: &[&[u8]],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<usize, CryptoError> {
        self.open(iv, aads, input, output)
    }
}

fn too_short() -> CryptoError {
    CryptoError::Other("the room for a packet is too short".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
        let pair = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16);
        digits.chunks(2).map(|two| pair(two).unwrap()).collect()
    }

    /// RFC 3711 appendix B.2.
    #[test]
    fn counter_mode_makes_the_key_stream_of_the_rfc() {
        let key = hex("2B7E151628AED2A6ABF7158809CF4F3C").try_into().unwrap();
        let iv = hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD0000").try_into().unwrap();
        let mut cipher = SupportedAes128CmSha1_80::create_cipher(&Srtp, key, true);
        let mut out = [0; 32];
        cipher.encrypt(&iv, &[0; 32], &mut out).unwrap();
        let expected = hex("E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB");
        assert_eq!(out.as_slice(), expected);
        assert!(cipher.encrypt(&iv, &[0; 32], &mut [0; 31]).is_err());
    }

    /// RFC 7714 s16.1.1.
    #[test]
    fn gcm_seals_the_packet_of_the_rfc_and_opens_no_other() {
        let key = hex("000102030405060708090a0b0c0d0e0f").try_into().unwrap();
        let iv = hex("51753c6580c2726f20718414").try_into().unwrap();
        let aad = hex("8040f17b8041f8d35501a0b2");
        let plain =
            hex("47616c6c696120657374206f6d6e69732064697669736120696e207061727465732074726573");
        let mut cipher = SupportedAeadAes128Gcm::create_cipher(&Srtp, key, true);
        let mut sealed = vec![0; plain.len() + 16];
        cipher.encrypt(&iv, &aad, &plain, &mut sealed).unwrap();
        let expected =
            hex("f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833
             899d7f27beb16a9152cf765ee4390cce");
        assert_eq!(sealed, expected);
        let mut opened = vec![0; plain.len()];
        let parts = [&aad[..4], &aad[4..]];
        assert_eq!(cipher.decrypt(&iv, &parts, &sealed, &mut opened).unwrap(), plain.len());
        assert_eq!(opened, plain);
        sealed[0] ^= 1;
        assert!(cipher.decrypt(&iv, &parts, &sealed, &mut opened).is_err());
    }

    /// RFC 3711 appendix B.3: the session key for encryption.
    #[test]
    fn first_block_derives_the_key_of_the_rfc() {
        let master = hex("E1F97A0D3E018BE0D64FA32C06DE4139");
        let input = hex("0EC675AD498AFEEBB6960B3AABE60000");
        let mut out = [0; 32];
        Srtp.srtp_aes_128_ecb_round(&master, &input, &mut out);
        assert_eq!(out[..16], hex("C61E7A93744F39EE10734AFE3FF7A087"));
    }

    /// RFC 2202 s3, case 2.
    #[test]
    fn hashes_are_those_of_the_standards() {
        let mac = Hashes.sha1_hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(mac.as_slice(), hex("effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"));
        let empty = hex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(Hashes.sha256(b"").as_slice(), empty);
        assert_eq!(Hashes.sha1(b"").as_slice(), hex("da39a3ee5e6b4b0d3255bfef95601890afd80709"));
    }
}
