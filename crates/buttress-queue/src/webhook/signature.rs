//! Signatures of Standard Webhooks, version `v1`: HMAC-SHA256 of id, time and payload.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use sha2::Sha256;

use crate::job::{InvalidId, JobId};

/// What a secret begins with when it is written down.
const PREFIX: &str = "whsec_";

/// Signatures that are looked at in one header; senders that change their secret send two.
const MOST_SIGNATURES: usize = 16;

pub(super) const ID: &str = "webhook-id";
pub(super) const TIMESTAMP: &str = "webhook-timestamp";
pub(super) const SIGNATURE: &str = "webhook-signature";

/// A secret that signs: 24 to 64 bytes. Its `Debug` does not tell it.
#[derive(Clone)]
pub struct Secret(Hmac<Sha256>);

impl Secret {
    /// Of these bytes.
    ///
    /// # Errors
    ///
    /// When there are fewer than 24 or more than 64.
    pub fn new(bytes: &[u8]) -> Result<Self, SecretError> {
        if !(24..=64).contains(&bytes.len()) {
            return Err(SecretError::Length(bytes.len()));
        }
        Hmac::new_from_slice(bytes).map(Self).map_err(|_| SecretError::Length(bytes.len()))
    }

    /// As the specification writes it: `whsec_` and base64.
    ///
    /// # Errors
    ///
    /// When it is not written so, or is too short or too long.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let base64 = text.strip_prefix(PREFIX).ok_or(SecretError::Prefix)?;
        Self::new(&STANDARD.decode(base64).map_err(|_| SecretError::Base64)?)
    }

    fn mac(&self, id: &str, timestamp: u64, payload: &[u8]) -> Hmac<Sha256> {
        let mac = self.0.clone();
        mac.chain_update(id)
            .chain_update(b".")
            .chain_update(timestamp.to_string())
            .chain_update(b".")
            .chain_update(payload)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Why a text is no [`Secret`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretError {
    /// It does not begin with `whsec_`.
    Prefix,
    /// What follows is not base64.
    Base64,
    /// It has so many bytes.
    Length(usize),
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix => write!(f, "a secret of webhooks begins with {PREFIX}"),
            Self::Base64 => write!(f, "after {PREFIX}, a secret of webhooks is base64"),
            Self::Length(length) => write!(f, "a secret of webhooks has 24 to 64 bytes, not {length}"),
        }
    }
}

impl std::error::Error for SecretError {}

/// The value of `webhook-signature`: a signature by each secret, so that a receiver can change to a new one.
pub fn sign(secrets: &[Secret], id: &JobId, timestamp: u64, payload: &[u8]) -> String {
    let signature = |secret: &Secret| {
        let signature = secret.mac(id.as_str(), timestamp, payload).finalize().into_bytes();
        format!("v1,{}", STANDARD.encode(signature))
    };
    secrets.iter().map(signature).collect::<Vec<_>>().join(" ")
}

/// What is known of a webhook whose signature is good.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// Its id: the same on every attempt of its sender.
    pub id: JobId,
    /// When it was signed, in Unix seconds.
    pub timestamp: u64,
}

/// Verifies the headers of a webhook against its payload, as it came, with any of these secrets. `now` is in Unix seconds;
/// what was signed longer than `tolerance` before or after it is a replay, or somebody's clock is wrong.
///
/// # Errors
///
/// [`VerifyError`], which tells a caller nothing about the secret.
pub fn verify(
    secrets: &[Secret],
    headers: &HeaderMap,
    payload: &[u8],
    now: u64,
    tolerance: Duration,
) -> Result<Verified, VerifyError> {
    let header = |name| {
        let value = headers.get(name).ok_or(VerifyError::Missing(name))?;
        value.to_str().map_err(|_| VerifyError::Malformed(name))
    };
    let (id, timestamp, signatures) = (header(ID)?, header(TIMESTAMP)?, header(SIGNATURE)?);
    let timestamp: u64 = match timestamp.bytes().all(|byte| byte.is_ascii_digit()) {
        true => timestamp.parse().map_err(|_| VerifyError::Malformed(TIMESTAMP))?,
        false => return Err(VerifyError::Malformed(TIMESTAMP)),
    };
    if now.abs_diff(timestamp) > tolerance.as_secs() {
        return Err(VerifyError::Stale { timestamp });
    }
    let candidates = signatures.split(' ').take(MOST_SIGNATURES).filter_map(|signature| signature.strip_prefix("v1,"));
    let mut candidates = candidates.filter_map(|signature| STANDARD.decode(signature).ok());
    let is_good = |signature: &Vec<u8>| {
        let good = |secret: &Secret| secret.mac(id, timestamp, payload).verify_slice(signature).is_ok();
        secrets.iter().any(good)
    };
    if !candidates.any(|signature| is_good(&signature)) {
        return Err(VerifyError::Signature);
    }
    let id = JobId::new(id).map_err(VerifyError::Id)?;
    Ok(Verified { id, timestamp })
}

/// Why a webhook was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VerifyError {
    /// This header is missing.
    Missing(&'static str),
    /// This header is not written as it should be.
    Malformed(&'static str),
    /// It was signed too long ago, or in the future.
    Stale {
        /// When, in Unix seconds.
        timestamp: u64,
    },
    /// No signature is good.
    Signature,
    /// Its id is none.
    Id(InvalidId),
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "the header {name} is missing"),
            Self::Malformed(name) => write!(f, "the header {name} is malformed"),
            Self::Stale { timestamp } => write!(f, "it was signed at {timestamp}, which is too far from now"),
            Self::Signature => f.write_str("no signature is good"),
            Self::Id(_) => f.write_str("its id is malformed"),
        }
    }
}

impl std::error::Error for VerifyError {}
